"""Component tests on the simulator of Amaranth."""
