"""Faults of moving averages, patches of rows, and heads on all tokens."""

from __future__ import annotations

from sim.mutation.streaming_faults import kept, replaced

_AVERAGE = "engine_scan"
_CONVOLUTION = "engine_convolution"
_ROWS = "engine_input"
_SEQUENCER = "engine_sequencer"
_SEQUENCES = "engine_sequences"

AVERAGE_FAULTS = (
    replaced(_AVERAGE, "difference", "v", "old average missing", "the average is its input"),
    replaced(_AVERAGE, "product_part_1", "13'h0", "lambda is zero", "nothing is kept"),
    replaced(_AVERAGE, "aligned_3", "aligned_1", "input early", "v of two channels further on"),
    replaced(_AVERAGE, "fresh_6", "1'h0", "frames not separate", "a frame begins with the last"),
    replaced(_AVERAGE, "write_address_8", "write_address_6", "average misplaced", "two early"),
    kept(_AVERAGE, "base", "first layer's averages", "all layers share their averages"),
    kept(_AVERAGE, "gate", "gate stays", "every channel has the first gate"),
    kept(_CONVOLUTION, "position", "place in frame stays", "zeros at the first token only"),
    kept(_CONVOLUTION, "swept_base", "sweeps of layer 0", "the other layers' inputs unused"),
    replaced(_CONVOLUTION, "late_turn_1", "2'h0", "bank 0 always first", "taps out of order"),
    replaced(_CONVOLUTION, "written_turn_1", "2'h0", "one bank", "tokens overwrite each other"),
    replaced(
        _CONVOLUTION,
        "product_0_part_1",
        "input_1",
        "tap twice",
        "the oldest input is the middle one",
    ),
    kept(_ROWS, "whole", "frame never whole", "its tokens are not offered"),
    kept(_ROWS, "reading", "rows not freed", "the ring of features fills up"),
    kept("engine_head", "place", "norms at one place", "the head never starts"),
    kept(_SEQUENCER, "turn", "one turn", "every token has the same bank"),
    kept(_SEQUENCER, "mix_tag", "tag of the sweep stays", "the first layer's convolution"),
    kept(_SEQUENCER, "average_tag", "tag of the average stays", "the first layer's averages"),
    kept("engine_front_array", "number", "first patch always", "all tokens read the first rows"),
    replaced(_SEQUENCES, "idle", "1'h1", "never busy", "the registers own the averages"),
)
