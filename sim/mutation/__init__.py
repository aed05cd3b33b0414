"""Mutation test: single faults injected into the generated Verilog, each of which must be caught.

All faults are built into one simulator (mutant schemata): at the place of fault ``k`` the Verilog
reads ``(mutant == k ? FAULTY : ORIGINAL)``, and the plusarg ``mutant`` chooses one when the
simulation starts. Without it the design is the original, which the test checks as well.
"""
