"""Every matrix-vector product of the network: buffers, weights, array and requantizer."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.errors import InputError
from golden.fixed_point import Integers
from golden.operations.linear import accumulator_bound
from golden.piecewise import ACTIVATION_INPUT_BITS
from golden.program import Program
from hw.array_controller import DIGITS, LEAST_INTERVAL, OPERANDS, STEERING, ArrayController
from hw.array_matrices import BODY, HEAD, Product, lane_words, matrices
from hw.clamp import clamped
from hw.dense_trits import dense_bits, unpack_dense
from hw.event_table import Event
from hw.group_scales import GroupScales, scale_words
from hw.mac_array import MacArray, mac_latency
from hw.parameter_memory import MemoryPlan, ParameterMemory
from hw.pipeline import delayed
from hw.requantizer import ShiftRequantizer
from hw.schedule import ArrayInstruction
from hw.shift_plan import ShiftPlan
from hw.trits import balanced_trits
from hw.vector_buffer import VectorBuffer

DESTINATIONS = ("x", "z", "projected", "out", "logits", "dt")
MLP_DESTINATIONS = ("mlp_z", "up")
_STEERING_OF = {
    "in_x": ("norm", "x"),
    "x_proj": ("u", "projected"),
    "in_dt": ("norm", "dt"),
    "in_z": ("norm", "z"),
    "out": ("gated", "out"),
    "head": ("norm", "logits"),
    "mlp_z": ("norm", "mlp_z"),
    "mlp_up": ("norm", "up"),
    "mlp_out": ("gated", "out"),
}
SCALES = "scale_base"
"""Operand of arrays whose weights have scales of groups: the instruction's first word of them."""

WEIGHT_LATENCY = 3
"""Cycles of the weight memories, which are deep."""

OPERAND_LATENCY = 1 + WEIGHT_LATENCY + 1
"""Cycles from an element's address to the array: its weights' address, the memory, and the choice
of body or head."""


class Projection(wiring.Component):
    """Runs the array's microcode: from source vectors to requantized rows.

    ``row = saturate(rne(sum_k W[row, k] source[k] / 2**shift[row]))``. Counting from the cycle s
    of an instruction's start, element k of group g is read in cycle ``s + 1 + g I + k`` and row
    ``g P + i`` leaves in cycle ``s + g I + K + row_latency + i``, I being the cycles a group.

    Parameters
    ----------
    program : source of weights and shifts
    lanes : P
    plan : where the weights live

    Members
    -------
    norm_valid, norm_index, norm_value ... : in, writes of the source vectors norm, u (not with
        heads) and gated
    start, operands : in, from the microcode
    row : out, index of the row that leaves
    x_valid, z_valid, projected_valid, out_valid, logits_valid, dt_valid : out, where it goes
    mlp_z_valid, up_valid : out, the same where there are MLPs
    narrow, wide, logit : out, the row saturated to activation, SiLU/residual and logit width
    up : out, saturated to the width of an MLP's up, where there are MLPs

    Raises
    ------
    InputError
        If the plan stores trits densely and the scheme has none, and from the program's own checks
        of shifts and accumulators.
    """

    def __init__(self, *, program: Program, lanes: int, plan: MemoryPlan) -> None:
        shape, scheme = program.shape, program.scheme
        self._program, self._lanes, self._plan = program, lanes, plan
        self.products: dict[tuple[str, int], Product] = {}
        self._words: tuple[list[int], list[int]] = ([], [])
        shifts: list[Integers] = []
        self._ternary = scheme.ternary
        if plan.dense_trits and not self._ternary:
            raise InputError(
                f"scheme {scheme.name} has no ternary weights to store five to a byte; leave "
                "--dense-trits out"
            )
        self._group = scheme.weight_group
        # The head's weights have no groups, and so no part in their scales.
        same = scheme.weight_bits == scheme.head_weight_bits and self._group is None
        self._one_bank = self._ternary or same
        self._scale_words: list[int] = []
        row_base = 0
        for name, layer, linear, shift in matrices(program):
            bank = HEAD if name == "head" and not self._one_bank else BODY
            bits = scheme.head_weight_bits if bank == HEAD else scheme.weight_bits
            base = len(self._words[bank])
            scale_base = len(self._scale_words)
            self.products[name, layer] = Product(linear, shift, bank, base, row_base, scale_base)
            stored = linear.weight
            if name == "head" and self._ternary:
                stored = balanced_trits(stored, scheme.head_trits)
            if self._group is not None and bank == BODY:
                self._scale_words += scale_words(linear, lanes, self._group)
            self._words[bank].extend(lane_words(stored, lanes, bits, dense=plan.dense_trits))
            shifts.append(shift)
            row_base += len(shift)
        self._shifts = ShiftPlan.covering(shifts)
        self._stored_shifts = [amount for shift in shifts for amount in self._shifts.stored(shift)]
        self.wide_bits = max(ACTIVATION_INPUT_BITS, scheme.residual_bits)
        inputs = scheme.projection_input_bits
        # The norm's buffer also serves the head.
        self._input_bits = max(inputs, scheme.activation_bits)
        if shape.heads is None:
            self._input_bits = max(self._input_bits, program.u_bits)
        self.accumulator_bits = self._lane_weight_bits + self._element_bits
        for (name, _layer), product in self.products.items():
            bits = {"head": scheme.activation_bits, "x_proj": program.u_bits}.get(name, inputs)
            bound = accumulator_bound(product.linear.integers, bits)
            self.accumulator_bits = max(self.accumulator_bits, bound.bit_length() + 1)
        self._sources = {
            "norm": (shape.d_model, self._input_bits),
            "u": (shape.d_inner, program.u_bits),
            # The MLP's gated values follow out_proj's, so that one buffer serves both.
            "gated": (max(shape.d_inner, shape.mlp or 0), inputs),
        }
        if shape.heads is not None:
            del self._sources["u"]  # no matrix reads it
        self._destinations = DESTINATIONS + (() if shape.mlp is None else MLP_DESTINATIONS)
        members: dict[str, In | Out] = {"start": In(1)}
        for name in (*self.operands, *(f"{name}_operand" for name in STEERING)):
            members[name] = In(self.limits[name.removesuffix("_operand")].bit_length() or 1)
        for name, (depth, bits) in self._sources.items():
            members |= {
                f"{name}_valid": In(1),
                f"{name}_index": In(range(depth)),
                f"{name}_value": In(signed(bits)),
            }
        members |= {f"{name}_valid": Out(1) for name in self._destinations}
        members |= {
            "row": Out(range(max(product.shape[0] for product in self.products.values()))),
            "narrow": Out(signed(scheme.activation_bits)),
            "wide": Out(signed(self.wide_bits)),
            "logit": Out(signed(scheme.logit_bits)),
        }
        if shape.mlp is not None:
            members["up"] = Out(signed(scheme.scan_output_bits))
        super().__init__(members)

    @property
    def operands(self) -> tuple[str, ...]:
        """Names of the operands of an instruction, besides the steering ones."""
        if self._group is not None:
            return (*OPERANDS, SCALES)
        return (*OPERANDS, DIGITS) if self._ternary else OPERANDS

    @property
    def _element_bits(self) -> int:
        """Width of what is broadcast: elements, of ternary arrays times powers of three."""
        factor = 3 ** (self._program.scheme.head_trits - 1) if self._ternary else 1
        return self._input_bits + (factor - 1).bit_length()

    @property
    def _lane_weight_bits(self) -> int:
        if self._ternary:
            return self._program.scheme.weight_bits
        return max(self._program.scheme.scaled_weight_bits, self._program.scheme.head_weight_bits)

    @property
    def row_latency(self) -> int:
        """Cycles from a group's last element's address to its first row, minus that of lane 0."""
        return (
            OPERAND_LATENCY
            + mac_latency(pipelined=not self._ternary)
            + ShiftRequantizer.latency
            + 1
        )

    @property
    def limits(self) -> dict[str, int]:
        """Largest value of every operand of the microcode and of the array's addresses."""
        columns = max(
            product.shape[1] * self._digits(name) for (name, _), product in self.products.items()
        )
        rows = max(product.shape[0] for product in self.products.values())
        addresses = max(len(words) for words in self._words)
        digits = {DIGITS: self._digits("head") - 1} if self._ternary else {}
        scales = {} if self._group is None else {SCALES: len(self._scale_words)}
        return (
            digits
            | scales
            | {
                "weight_base": addresses,
                "weight_address": addresses,
                "last_column": columns - 1,
                "last_group": -(-rows // self._lanes),
                "last_position": max(columns, self._lanes, LEAST_INTERVAL) - 1,
                "last_row": rows - 1,
                "row_base": len(self._stored_shifts),
                "row_address": len(self._stored_shifts),
                "source": len(self._sources) - 1,
                "bank": HEAD,
                "destination": len(self._destinations) - 1,
            }
        )

    def _digits(self, name: str) -> int:
        return self._program.scheme.head_trits if name == "head" and self._ternary else 1

    def event(self, instruction: ArrayInstruction) -> Event:
        """Return the microcode entry of a scheduled instruction."""
        product = self.products[instruction.name, instruction.layer]
        source, destination = _STEERING_OF[instruction.name]
        digits = {DIGITS: instruction.digits - 1} if self._ternary else {}
        return Event(
            instruction.start,
            digits
            | ({} if self._group is None else {SCALES: product.scale_base})
            | {
                "weight_base": product.base,
                "last_column": instruction.steps - 1,
                "last_group": instruction.groups - 1,
                "last_position": instruction.interval - 1,
                "last_row": instruction.rows - 1,
                "row_base": product.row_base,
                "source": list(self._sources).index(source),
                "bank": product.bank,
                "destination": self._destinations.index(destination),
            },
        )

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.submodules.array = array = MacArray(
            lanes=self._lanes,
            weight_bits=self._lane_weight_bits,
            input_bits=self._element_bits,
            accumulator_bits=self.accumulator_bits,
            arithmetic=self._plan.arithmetic,
            pipelined=not self._ternary,
            ternary=self._ternary,
        )
        m.submodules.controller = controller = ArrayController(
            lanes=self._lanes,
            limits=self.limits,
            row_latency=OPERAND_LATENCY + array.latency - ParameterMemory.latency,
        )
        m.d.comb += controller.start.eq(self.start)
        for name in (*controller.operands, *(f"{name}_operand" for name in STEERING)):
            m.d.comb += getattr(controller, name).eq(getattr(self, name))
        self._read_operands(m, controller, array)
        self._requantize(m, controller, array)
        return m

    def _read_operands(self, m: Module, controller: ArrayController, array: MacArray) -> None:
        """Bring element and weights to the lanes, so long after the element is addressed.

        The element waits for its weights, which come from all over the device.
        """
        elements = []
        for name, (depth, bits) in self._sources.items():
            buffer = VectorBuffer(depth=depth, width=bits)
            m.submodules[f"{name}_buffer"] = buffer
            m.d.comb += [
                buffer.valid.eq(getattr(self, f"{name}_valid")),
                buffer.index.eq(getattr(self, f"{name}_index")),
                buffer.value.eq(getattr(self, f"{name}_value")),
                buffer.read_index.eq(controller.element),
            ]
            elements.append(buffer.read_value.as_signed())
        source = delayed(m, controller.source, VectorBuffer.latency, name="source")
        weights = self._weights(m, controller)
        chosen = elements[-1]
        for number, element in reversed(list(enumerate(elements[:-1]))):
            chosen = Mux(source == number, element, chosen)
        word = Signal.like(array.weights, name="weight_word", reset_less=True)
        m.d.sync += word.eq(weights)
        if self._ternary:
            # An element's digits count 1, 3, 9, ... times the element.
            fresh = delayed(m, controller.first_digit, VectorBuffer.latency, name="first_digit")
            scaled = Signal.like(array.x, name="scaled", reset_less=True)
            chosen = Mux(fresh, chosen, scaled + (scaled << 1))
            m.d.sync += scaled.eq(chosen)
        wait = OPERAND_LATENCY - 1  # behind the element, as the controller's flags are
        m.d.comb += [
            array.enable.eq(delayed(m, controller.element_valid, wait, name="enable")),
            array.first.eq(delayed(m, controller.first, wait, name="first")),
            array.last.eq(delayed(m, controller.last, wait, name="last")),
            array.x.eq(delayed(m, chosen, wait + 1 - VectorBuffer.latency, name="broadcast")),
            array.weights.eq(word),
        ]

    def _weights(self, m: Module, controller: ArrayController) -> Cat | Mux:
        """Return the weight word at lane width, a cycle before it is at the array."""
        scheme, lanes = self._program.scheme, self._lanes
        banks = []
        for name, stored_bits, words in (
            ("weights", scheme.weight_bits, self._words[BODY]),
            ("head_weights", scheme.head_weight_bits, self._words[HEAD]),
        ):
            if not words:
                continue
            dense = self._plan.dense_trits
            bank = ParameterMemory(
                name=name,
                width=dense_bits(lanes) if dense else lanes * stored_bits,
                words=words,
                plan=self._plan,
                latency=WEIGHT_LATENCY,
            )
            m.submodules[f"{name}_memory"] = bank
            m.d.comb += bank.address.eq(controller.weight_address)
            data = unpack_dense(bank.data, lanes) if dense else bank.data
            bits = stored_bits
            if self._group is not None and name == "weights":
                data, bits = self._scaled(m, controller, data), scheme.scaled_weight_bits
            widened = []
            for lane in range(lanes):
                weight = Signal(signed(self._lane_weight_bits), name=f"{name}_{lane}")
                m.d.comb += weight.eq(data.word_select(lane, bits).as_signed())
                widened.append(weight)
            banks.append(Cat(*widened))
        if len(banks) == 1:
            return banks[0]
        selected = delayed(m, controller.bank, OPERAND_LATENCY - 1, name="bank")
        return Mux(selected == HEAD, banks[HEAD], banks[BODY])

    def _scaled(self, m: Module, controller: ArrayController, weights: Value) -> Value:
        """Return the blocks' weights in the units of their rows."""
        assert self._group is not None  # asked for by the caller
        m.submodules.scales = scales = GroupScales(
            lanes=self._lanes,
            weight_bits=self._program.scheme.weight_bits,
            column_bits=len(controller.element),
            group=self._group,
            words=self._scale_words,
            latency=WEIGHT_LATENCY,
            plan=self._plan,
        )
        m.d.comb += [
            scales.start.eq(self.start),
            scales.base.eq(getattr(self, SCALES)),
            scales.element_valid.eq(controller.element_valid),
            scales.column.eq(delayed(m, controller.element, 1, name="column")),
            scales.last.eq(controller.last),
            scales.weights.eq(weights),
        ]
        return scales.scaled

    def _requantize(self, m: Module, controller: ArrayController, array: MacArray) -> None:
        """Drop each row's bits and saturate it to the width of its destination."""
        m.submodules.row_shifts = amounts = ParameterMemory(
            name="row_shifts",
            width=self._shifts.bits,
            words=self._stored_shifts,
            plan=self._plan,
        )
        m.d.comb += amounts.address.eq(controller.row_address)
        scheme = self._program.scheme
        m.submodules.requantizer = requantizer = ShiftRequantizer(
            input_width=self.accumulator_bits + self._shifts.left,
            output_width=max(self.wide_bits, scheme.logit_bits),
            max_shift=max(1, self._shifts.maximum),
        )
        m.d.comb += [
            requantizer.i.eq(array.value << self._shifts.left),
            requantizer.shift.eq(amounts.data),
        ]
        # Row index and destination wait for memory, requantizer and the saturation below.
        wait = ParameterMemory.latency + requantizer.latency
        arrived = delayed(m, controller.row_valid, wait, name="row_valid")
        destination = delayed(m, controller.destination, wait, name="destination")
        m.d.comb += self.row.eq(delayed(m, controller.row, wait + 1, name="row"))
        for number, name in enumerate(self._destinations):
            valid = getattr(self, f"{name}_valid")
            m.d.sync += valid.eq(arrived & (destination == number))
        outputs = [self.narrow, self.wide, self.logit]
        if self._program.shape.mlp is not None:
            outputs.append(self.up)
        for output in outputs:
            m.d.sync += output.eq(clamped(requantizer.o, len(output)))
