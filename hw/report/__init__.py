"""Area and clock of a generated design, found by synthesis and place and route.

``python -m hw.report`` is the command; :mod:`hw.report.flow` the interface for other programs.
"""
