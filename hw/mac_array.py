"""The output-stationary multiply-accumulate array with its double-buffered drain.

P lanes hold P output rows; each cycle one input element is broadcast and one weight word of P
weights is read, so there is no adder tree. When a group of rows is complete its sums move to a
shadow register and leave one a cycle while the next group accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.multiplier import (
    PIPELINED_PRODUCT,
    SYNTHESIZED,
    Arithmetic,
    packed_products,
    pipelined_product,
    registered_product,
)


@dataclass(frozen=True)
class LaneProduct:
    """A lane's product: ``value``, and one more if ``carry`` is set."""

    value: Value
    carry: Value | None = None

    def added(self, total: Value) -> Value:
        """Return the sum with a signed ``total``, of one adder."""
        if self.carry is None:
            return total + self.value
        # A bit below both addends makes the carry: 1 + 1 reaches the bit above, 1 + 0 does not.
        raised = Cat(Const(1, 1), total).as_signed() + Cat(self.carry, self.value).as_signed()
        return raised[1:].as_signed()


def ternary_product(m: Module, x: Value, trit: Value, *, name: str) -> LaneProduct:
    """Return ``x`` times a weight of -1, 0 or 1, one cycle later, without a multiplier.

    The weight's two's complement has its sign above and whether it is not zero below: x is
    inverted or not, passed or not, and the adder behind takes the sign as its carry.
    """
    value = Signal(x.shape(), name=name, reset_less=True)
    carry = Signal(name=f"{name}_carry", reset_less=True)
    m.d.sync += [
        value.eq(Mux(trit[0], x ^ trit[1].replicate(len(x)), 0)),
        carry.eq(trit[1]),
    ]
    return LaneProduct(value, carry)


def mac_latency(*, pipelined: bool) -> int:
    """Return the cycles from a group's last element to its first sum: product, sum, shadow."""
    return (PIPELINED_PRODUCT if pipelined else 1) + 2


class MacArray(wiring.Component):
    """P multiply-accumulate lanes: ``sum_k W[g P + p, k] x[k]`` for one group after another.

    Counting from the cycle c in which an input element's ``first``/``last`` flags are presented
    together with its weight word, the sum of lane i is on ``value`` in cycle
    ``c_last + latency + i``. Latency: 3, or 4 with pipelined products. Throughput: P products a
    cycle; groups may follow each other every ``max(K, rows drained)`` cycles.

    Parameters
    ----------
    lanes : P
    weight_bits, input_bits : signed operand widths
    accumulator_bits : signed sum width, proved sufficient by the generator
    arithmetic : how products are built
    pipelined : give the products two cycles
    ternary : weights are -1, 0 or 1 in two bits: lanes add, subtract or skip

    Members
    -------
    enable : in, an element is present
    first, last : in, it is the first or last of its group
    x : in, signed element
    weights : in, P packed weights, lane 0 lowest
    value : out, signed sum at the drain's end of the shadow register

    Raises
    ------
    ValueError
        If there is no lane or the accumulator is narrower than one product.
    """

    def __init__(
        self,
        *,
        lanes: int,
        weight_bits: int,
        input_bits: int,
        accumulator_bits: int,
        arithmetic: Arithmetic = SYNTHESIZED,
        pipelined: bool = False,
        ternary: bool = False,
    ) -> None:
        if ternary and (weight_bits != 2 or pipelined):
            raise ValueError("ternary weights take two bits and products of one cycle")
        if lanes < 1:
            raise ValueError(f"mac lanes = {lanes} is below 1; give at least one lane")
        if accumulator_bits < weight_bits + input_bits:
            raise ValueError(
                f"accumulators of {accumulator_bits} bits do not hold one product of "
                f"{weight_bits + input_bits} bits; widen them"
            )
        self._lanes, self._weight_bits = lanes, weight_bits
        self._accumulator_bits, self._arithmetic = accumulator_bits, arithmetic
        self._pipelined, self._ternary = pipelined, ternary
        super().__init__(
            {
                "enable": In(1),
                "first": In(1),
                "last": In(1),
                "x": In(signed(input_bits)),
                "weights": In(lanes * weight_bits),
                "value": Out(signed(accumulator_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a group's last element to its first sum."""
        return mac_latency(pipelined=self._pipelined)

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        # Enable, first and last beside the registered product.
        flags = Cat(self.enable, self.first & self.enable, self.last & self.enable)
        for age in range(self.latency - 2):
            register = Signal(3, name=f"multiplied_{age}")
            m.d.sync += register.eq(flags)
            flags = register
        multiplied, complete = flags, Signal()
        m.d.sync += complete.eq(multiplied[2])
        products = self._products(m)
        shadows = [
            Signal(signed(self._accumulator_bits), name=f"shadow_{lane}", reset_less=True)
            for lane in range(self._lanes)
        ]
        for lane, shadow in enumerate(shadows):
            total = Signal(
                signed(self._accumulator_bits), name=f"accumulator_{lane}", reset_less=True
            )
            with m.If(multiplied[0]):
                m.d.sync += total.eq(products[lane].added(Mux(multiplied[1], 0, total)))
            # Lane i's sum reaches lane 0 after i shifts; what follows the last lane is unused.
            following = shadows[lane + 1] if lane + 1 < self._lanes else shadow
            m.d.sync += shadow.eq(Mux(complete, total, following))
        m.d.comb += self.value.eq(shadows[0])
        return m

    def _products(self, m: Module) -> list[LaneProduct]:
        """Return the product of every lane; where it is possible, neighbours share a multiplier."""
        cycles = PIPELINED_PRODUCT if self._pipelined else 1
        weights = [
            self.weights.word_select(lane, self._weight_bits).as_signed()
            for lane in range(self._lanes)
        ]
        if self._ternary:
            return [
                ternary_product(m, self.x, weight, name=f"product_{lane}")
                for lane, weight in enumerate(weights)
            ]
        products: list[LaneProduct] = []
        if self._arithmetic.multipliers.packs(self._weight_bits, len(self.x), cycles):
            for lane in range(0, self._lanes - 1, 2):
                pair = packed_products(
                    m,
                    self.x,
                    (weights[lane], weights[lane + 1]),
                    self._arithmetic,
                    pipelined=self._pipelined,
                    name=f"products_{lane}",
                )
                products += [LaneProduct(pair.low), LaneProduct(pair.high, pair.carry)]
        build = pipelined_product if self._pipelined else registered_product
        for lane in range(len(products), self._lanes):
            product = build(m, self.x, weights[lane], self._arithmetic, name=f"product_{lane}")
            products.append(LaneProduct(product))
        return products
