"""Several contexts on one engine: interleaved, saved, restored, rolled back, under stalls."""

import json
from dataclasses import replace

import numpy as np
import pytest

from golden import vectors
from golden.configuration import HeadShape, NetworkShape
from golden.random_program import random_program
from golden.scheme import find_scheme
from hw.generate import write_design
from hw.lanes import Lanes
from hw.manifest import cycles_generating
from sim.cosimulation import Cosimulation, Stimulus, differences
from sim.operations import Operation, played_trace, state_words

SHAPE = NetworkShape(
    vocabulary=19, d_model=8, d_inner=12, d_state=4, d_conv=3, dt_rank=2, n_layer=2, mlp=9
)
HEADS = replace(SHAPE, dt_rank=0, heads=HeadShape(size=2, groups=3))
LENGTH = 14
SPEEDS = {"full speed": None, "stalls": 7}


class Design:
    """A generated directory with its simulator, and golden's answer to whatever is played."""

    def __init__(self, shape, lanes, folder):
        self.lanes = lanes
        self.program = random_program(shape, find_scheme("w4a5-se"), seed=8)
        stimulus = vectors.random_stimulus(self.program, 5, 0, lanes.contexts)
        self.generated = write_design(
            self.program, lanes, stimulus, preset="contexts", folder=folder / "design"
        )
        self.simulation = Cosimulation(folder / "design", folder / "simulation")
        self.manifest = json.loads((folder / "design" / "manifest.json").read_text())

    def play(self, stream, operations=(), *, saved=None, stall_seed=None, **options):
        """Play a stream, compare everything with golden, return what was recorded and saved."""
        words = {
            name: state_words(self.program, self.lanes, state, 0)
            for name, state in (saved or {}).items()
        }
        outcome = self.simulation.run(
            Stimulus(
                tokens=stream.tokens.tolist(),
                last=stream.last.tolist(),
                context=stream.context.tolist(),
                contexts=self.lanes.contexts,
                vocabulary=SHAPE.vocabulary,
                operations=list(operations),
                states=words,
                stall_seed=stall_seed,
                longest_stall=2 * self.generated.schedule.interval,
                **options,
            )
        )
        trace, states = played_trace(
            self.program,
            stream,
            operations,
            reset_at_last=options.get("reset_at_last", True),
            saved=saved,
        )
        assert differences(self.generated, outcome, trace) == []
        for name, state in states.items():
            assert outcome.saved[name] == state_words(self.program, self.lanes, state, 0), name
        return outcome, states


@pytest.fixture(
    scope="module",
    params=[(SHAPE, 2), (HEADS, 2), pytest.param((SHAPE, 8), marks=pytest.mark.slow)],
    ids=["mamba1-2", "mamba2-2", "mamba1-8"],
)
def design(request, tmp_path_factory):
    shape, contexts = request.param
    lanes = Lanes(mac=4, scan=2, contexts=contexts)
    return Design(shape, lanes, tmp_path_factory.mktemp("contexts"))


@pytest.fixture(params=SPEEDS.values(), ids=SPEEDS)
def stall_seed(request):
    return request.param


def one_sequence(design, length, seed, *contexts):
    """Return random tokens without an end, of the given contexts in turn."""
    stream = vectors.random_stimulus(design.program, length, seed, design.lanes.contexts)
    turns = np.resize(contexts, length)
    return vectors.Stimulus(
        tokens=stream.tokens,
        last=np.zeros_like(stream.last),
        context=turns,
        seed=seed,
        contexts=design.lanes.contexts,
    )


@pytest.mark.parametrize("reset_at_last", [True, False], ids=["at TLAST", "never"])
def test_random_interleaving_equals_golden(design, stall_seed, reset_at_last):
    stream = vectors.random_stimulus(design.program, LENGTH, 3, design.lanes.contexts)
    assert len(set(stream.context.tolist())) > 1
    assert stream.last[:-1].any()
    outcome, _ = design.play(stream, stall_seed=stall_seed, reset_at_last=reset_at_last)
    if stall_seed is None:
        assert set(np.diff(outcome.starts)) == {design.generated.schedule.interval}


def test_reset_of_one_context_leaves_the_others_alone(design, stall_seed):
    resets = [Operation(position=p, kind="reset", context=p % 2) for p in (4, 7, 9)]
    design.play(one_sequence(design, 12, 4, 0, 1), resets, stall_seed=stall_seed)


def test_state_of_one_context_continues_in_another(design, stall_seed):
    """Context 0 is saved while 1 is in the middle; 1 continues from it, and 0 goes on."""
    operations = [
        Operation(position=5, kind="save", context=0, name="first"),
        Operation(position=8, kind="save", context=1, name="second"),
        Operation(position=8, kind="restore", context=1, name="first"),
        Operation(position=10, kind="save", context=1, name="third"),
    ]
    stream = one_sequence(design, 12, 5, 0, 1)
    _, states = design.play(stream, operations, stall_seed=stall_seed)
    assert not np.array_equal(states["first"].scan, states["second"].scan)


def test_rollback_forgets_withdrawn_tokens(design, stall_seed):
    """Speculative decoding: tokens are tried, withdrawn, and others take their place."""
    operations = [
        Operation(position=4, kind="save", context=1, name="checked"),
        Operation(position=9, kind="restore", context=1, name="checked"),
    ]
    _, states = design.play(one_sequence(design, 12, 6, 1, 1, 0), operations, stall_seed=stall_seed)
    assert states["checked"].scan.any()


def test_state_of_one_simulation_continues_in_another(design):
    stream, number = one_sequence(design, 9, 9, 0), design.lanes.contexts - 1
    save = [Operation(position=5, kind="save", context=0, name="moved")]
    whole, states = design.play(stream, save)
    rest = vectors.Stimulus(
        tokens=stream.tokens[5:],
        last=stream.last[5:],
        context=np.full(4, number),
        seed=0,
        contexts=design.lanes.contexts,
    )
    restore = [Operation(position=0, kind="restore", context=number, name="moved")]
    continued, _ = design.play(rest, restore, saved=states)
    assert continued.results == whole.results[5:]
    assert continued.logits == whole.logits[5 * SHAPE.vocabulary :]


def test_streams_that_feed_themselves_keep_the_engine_at_its_interval(design):
    """Every context's next token is its last arg-max; cycles are counted, not predicted."""
    contexts = design.lanes.contexts
    first = vectors.Stimulus(
        tokens=np.arange(contexts),
        last=np.zeros(contexts, np.int64),
        context=np.arange(contexts),
        seed=0,
        contexts=contexts,
    )
    count = 6 * contexts
    outcome = design.simulation.run(
        Stimulus(
            tokens=first.tokens.tolist(),
            last=first.last.tolist(),
            context=first.context.tolist(),
            contexts=contexts,
            vocabulary=SHAPE.vocabulary,
            generate=count - contexts,
            emit_logits=False,
        )
    )
    assert outcome.tokens[contexts:] == outcome.results[:-contexts]
    trace = vectors.trace(design.program, outcome.tokens, outcome.last, outcome.context)
    assert differences(design.generated, outcome, trace) == []
    rounds = np.diff(outcome.starts[contexts::contexts])
    schedule = design.generated.schedule
    assert set(rounds / contexts) == {cycles_generating(schedule)} == {schedule.interval}
    assert design.manifest["predicted_cycles_generating"] == schedule.interval
