"""Faults of sequencer, microcode, outputs and control registers, and of memory images."""

from __future__ import annotations

from dataclasses import dataclass

from sim.mutation.linear_faults import ANONYMOUS
from sim.mutation.schemata import Fault
from sim.mutation.strained import STEADY

_SEQUENCER = "engine_sequencer"
_OUTPUTS = "engine_outputs"

CONTROL_FAULTS = (
    Fault(
        name="end of sequence ignored",
        unit=_SEQUENCER,
        kind="TLAST does not start a new sequence",
        pattern=r"= (?P<site>tokens__payload\[\d+\] & reset_at_last);",
        faulty="1'h0",
    ),
    Fault(
        name="reset policy ignored",
        unit="engine",
        kind="TLAST clears the state although the register says not to",
        pattern=r"_sequencer  sequencer \([^;]*\.reset_at_last\((?P<site>\w+)\)",
        faulty="1'h1",
    ),
    Fault(
        name="interval off by one",
        unit=_SEQUENCER,
        kind="a token may start one cycle late",
        pattern=r"= cycle == (?P<site>\d+'h[0-9a-f]+);",
        faulty="{site} + 1'h1",
    ),
    Fault(
        name="token refused",
        unit=_SEQUENCER,
        kind="no second token is accepted",
        pattern=rf"assign tokens__ready = (?P<site>{ANONYMOUS}) & allowed;",
        faulty="starts_fresh",
    ),
    Fault(
        name="array a cycle late",
        unit="engine_array_microcode",
        kind="instructions start in the wrong cycle",
        pattern=r"assign port__data = (?P<site>_0_);",
        faulty="_0_ ^ 1'h1",
    ),
    Fault(
        name="scan a cycle late",
        unit="engine_scan_microcode",
        kind="the scan starts in the wrong cycle",
        pattern=r"assign port__data = (?P<site>_0_);",
        faulty="_0_ ^ 1'h1",
    ),
    Fault(
        name="scan's layer ignored",
        unit="engine_scan_microcode",
        kind="the scan works on the first layer only",
        pattern=r"= (?P<site>port__data\[11\]);",
        faulty="1'h0",
    ),
    Fault(
        name="last of two maxima",
        unit=_OUTPUTS,
        kind="the arg-max compares with >= in place of >",
        pattern=r"= (?P<site>\$signed\(candidate_1\) > \$signed\(best\));",
        faulty="$signed(candidate_1) >= $signed(best)",
    ),
    Fault(
        name="arg-max off by one",
        unit=_OUTPUTS,
        kind="the token is the index after the largest logit's",
        pattern=r"= (?P<site>index);",
        faulty="index + 1'h1",
    ),
    Fault(
        name="last logit dropped",
        unit=_OUTPUTS,
        kind="a token's arg-max is given before the last logit",
        pattern=r"= index == (?P<site>6'h2f);",
        faulty="6'h2e",
    ),
    Fault(
        name="logits suppressed",
        unit=_OUTPUTS,
        kind="no logit enters the stream",
        pattern=r"= valid & (?P<site>emit_logits);",
        faulty="1'h0",
    ),
    Fault(
        name="result's TLAST lost",
        unit=_OUTPUTS,
        kind="results never end a sequence",
        pattern=r"\\i__payload\$\d+ \[6\] = (?P<site>result_last_2);",
        faulty="1'h0",
    ),
    Fault(
        name="payload not held",
        unit=f"{_OUTPUTS}_logit_buffer",
        kind="the row after the first is shown although nothing was taken",
        pattern=rf"assign next_row = (?P<site>take) \? {ANONYMOUS}",
        faulty="o__valid",
    ),
    Fault(
        name="result stays",
        unit=f"{_OUTPUTS}_token_buffer",
        kind="a result stays in the buffer although it was taken",
        pattern=r"assign take = (?P<site>o__valid & o__ready);",
        faulty="1'h0",
    ),
    Fault(
        name="control bits swapped",
        unit="control",
        kind="the reset policy is written from the bit beside its own",
        pattern=r"reset_at_last;\n    if \(write_now\) begin\n      casez \(write_address\)\n"
        r"        6'h10:\n            \\\$\d+  = (?P<site>(?P<word>\\\$\d+ )\[1\]);",
        faulty="{word} [2]",
    ),
)


@dataclass(frozen=True)
class ImageFault:
    """One flipped bit of a memory image.

    Parameters
    ----------
    image : name of the memory
    word : index of the word
    bit : place in the word, 0 is the lowest
    kind : what the bit means
    """

    image: str
    word: int
    bit: int
    kind: str

    @property
    def name(self) -> str:
        """Name for reports."""
        return f"flipped bit of {self.image}"


IMAGE_FAULTS = (
    ImageFault("activation_shifts", 5, 0, "lowest bit of the shift of u"),
    ImageFault("convolution", 40, 15, "sign of a tap"),
    ImageFault("embedding", 7 * 16 + 3, 7, "sign of an embedding"),
    ImageFault("embedding_shift", 12, 0, "lowest bit of a token's shift"),
    ImageFault("head_weights", 5, 7, "sign of a weight of the head"),
    ImageFault("mlp_gated_shifts", 25, 0, "lowest bit of the shift of an MLP's product"),
    ImageFault("norm_weight", 72, 13, "a weight of the final norm"),
    # 16 (127 2**10)**2 = 3.94 * 2**36: in the upper octave, segment 248.
    ImageFault("reciprocal_root", 256 + 248, 20, "the root of the loud token's embedding"),
    ImageFault("rotation_shifts", 40, 0, "lowest bit of a rotated channel's shift"),
    ImageFault("row_shifts", 100, 0, "lowest bit of a row's shift"),
    ImageFault("scan_decay_rates", 2 * STEADY, 9, "highest bit of a decay rate"),
    ImageFault("scan_dt_constants", STEADY, 12, "a high bit of a step size's bias"),
    ImageFault("scan_dt_weights", 2 * STEADY, 3, "sign of a weight of dt_proj"),
    ImageFault("scan_readout_constants", 50, 12, "a skip weight"),
    ImageFault("scan_softplus", 32, 22, "softplus of the steady channel"),
    ImageFault("scan_update_shifts", STEADY, 0, "lowest bit of an update's shift"),
    ImageFault("silu", 0, 20, "SiLU near zero"),
    ImageFault("weights", 200, 31, "sign of a weight"),
)
"""One bit of every parameter memory, in a word that matters to the streams.

A table's segment must be visited, and a channel's constant must not belong to one whose step size
rounds to zero: there the state stays zero whatever the shift of its update is.
"""
