"""Formal proofs of the generic components with SymbiYosys and z3."""
