"""The hardware: Amaranth components, the static schedule and the Verilog generator."""
