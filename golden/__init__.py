"""The contract: formats, rounding, the integer program, its executor and its vectors."""
