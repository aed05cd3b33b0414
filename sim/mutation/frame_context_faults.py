"""Faults of what keeps the contexts of a frame network apart."""

from __future__ import annotations

from sim.mutation.linear_faults import ANONYMOUS, NET
from sim.mutation.schemata import Fault
from sim.mutation.streaming_faults import kept, replaced

_ARRIVING = "engine_contexts"
_LEAVING = "engine_head_contexts"
_CONVOLUTION = "engine_convolution"
_SCAN = "engine_scan"
_SEQUENCER = "engine_sequencer"
_SEQUENCES = "engine_sequences"

_COMMON = (
    Fault(
        name="frames of context 0",
        unit=_SEQUENCER,
        kind="every block goes on from the first context, whosever frame it is of",
        pattern=r"\[\d+\] = (?P<site>\\context );",
        faulty="1'h0",
    ),
    Fault(
        name="fresh flag of the other context",
        unit=_SEQUENCES,
        kind="whether a frame finds zeros is asked of the other context",
        pattern=r"casez \((?P<site>\\context )\)",
        faulty="~{site}",
    ),
    Fault(
        name="fresh flags of both contexts",
        unit=_SEQUENCES,
        kind="a frame of one context takes the reset of the other one too",
        pattern=rf"= taken & (?P<site>{NET});",
        faulty="1'h1",
        places=4,
    ),
    Fault(
        name="command for both contexts",
        unit=_SEQUENCES,
        kind="a reset of one context starts the other one afresh too",
        pattern=rf"= reset_request & (?P<site>{ANONYMOUS});",
        faulty="1'h1",
        places=2,
    ),
    Fault(
        name="restored context is not resumed",
        unit=_SEQUENCES,
        kind="a context that was reset stays fresh although a state was restored",
        pattern=rf"= (?P<site>resume_request) & {ANONYMOUS};",
        faulty="1'h0",
        places=2,
    ),
    kept(_SEQUENCES, "fresh_1", "always fresh", "context 1 begins with zeros in every frame"),
    replaced(_SEQUENCES, "fresh_0", "1'h0", "never fresh", "context 0 goes on behind its resets"),
    Fault(
        name="words of context 0",
        unit=_SCAN,
        kind="states are saved from and restored to the first context, whichever is selected",
        pattern=r"\((?P<site>access_context)\)",
        faulty="1'h0",
    ),
    kept(_LEAVING, "take_row", "outputs of the first frame's context", "TID never changes"),
)

SCAN_CONTEXT_FAULTS = (
    *_COMMON,
    kept(_ARRIVING, "o__payload", "frames of the first frame's context", "TID is read once"),
    replaced(_SCAN, "read_context_1", "1'h0", "scan of context 0", "its states for every frame"),
    replaced(
        _SCAN, "write_context_1", "~current_context", "states misplaced", "in the other one's"
    ),
    replaced(_CONVOLUTION, "context_1", "1'h0", "windows of context 0", "for every frame"),
    Fault(
        name="window of context 0 saved",
        unit=_CONVOLUTION,
        kind="windows are saved from the first context, whichever is selected",
        pattern=r"= (?P<site>access_context);",
        faulty="1'h0",
    ),
    Fault(
        name="window of context 0 restored",
        unit=_CONVOLUTION,
        kind="windows are restored to the first context, whichever is selected",
        pattern=r"outside_address_1 <= \{ access_address, (?P<site>access_context) \};",
        faulty="1'h0",
    ),
    kept("engine_input", "frame_context", "frame's own TID not known", "good frames are unaligned"),
)
"""Of the scan and its causal convolution, besides what every frame network has."""

AVERAGE_CONTEXT_FAULTS = (
    *_COMMON,
    kept(_ARRIVING, "take_row", "frames of the first frame's context", "TID is read once"),
    replaced(_SCAN, "context_1", "1'h0", "averages of context 0", "they serve every frame"),
)
"""Of moving averages, besides what every frame network has."""
