"""Hardware of scale selection by itself: what two scales cost, and what the alternatives would.

``python -m hw.study --liberty FILE`` measures it; :mod:`hw.study.selection` has the alternatives.
"""
