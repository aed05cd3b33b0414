"""The program's operations, one a file; `hw` has a component for each of them."""
