"""Cosimulation of the generated Verilog against the golden model, and formal proofs."""
