"""Hardware multipliers of a device as their maker names them, with the registers inside."""

from __future__ import annotations

from enum import StrEnum

from amaranth.hdl import ClockSignal, Instance, Module, Shape, Signal, Value, signed

__all__ = ["MULTIPLIER_MODULE", "MULTIPLIER_VERILOG", "Primitives", "fits", "native_product"]

MULTIPLIER_MODULE = "scanwright_multiplier"
"""The module that holds one primitive; its file is part of a design that uses primitives."""

FACTOR_BITS, PRODUCT_BITS = 18, 36

_FACTOR_CLOCKS = {1: "NONE", 2: "CLK0"}
"""Clock of the factors' registers, by the cycles of a product."""


class Primitives(StrEnum):
    """Which device's primitives a design names; value and cycle are the same for all.

    ``none`` leaves every register to synthesis, which puts those of a product into cells of their
    own; with ``ecp5`` the products of hardware multipliers are MULT18X18D with their registers.
    """

    NONE = "none"
    ECP5 = "ecp5"


def fits(*factors: Value) -> bool:
    """Return whether a primitive takes the factors: of at most 18 bits, or unsigned of 17."""
    return all(len(factor) + (not factor.shape().signed) <= FACTOR_BITS for factor in factors)


def native_product(m: Module, first: Value, second: Value, *, cycles: int, name: str) -> Signal:
    """Return ``first * second`` of one or two cycles before, of a primitive of the device.

    A product of one cycle has its register in the primitive, one of two the factors' as well.

    Amaranth's simulator knows no primitives: the design is for generated Verilog.

    Parameters
    ----------
    first, second : factors that :func:`fits`
    cycles : 1 or 2
    name : of the product and of the instance

    Raises
    ------
    ValueError
        If a factor does not fit, or the cycles are others.
    """
    for factor in (first, second):
        if not fits(factor):
            raise ValueError(f"a factor of {factor.shape()} does not fit signed({FACTOR_BITS})")
    if cycles not in _FACTOR_CLOCKS:
        raise ValueError(f"a primitive has no product of {cycles} cycles; give 1 or 2")
    factors = [Signal(signed(FACTOR_BITS), name=f"{name}_{port}") for port in "ab"]
    whole = Signal(signed(PRODUCT_BITS), name=f"{name}_whole")
    is_signed = first.shape().signed or second.shape().signed
    product = Signal(Shape(len(first) + len(second), signed=is_signed), name=name)
    m.d.comb += [factors[0].eq(first), factors[1].eq(second), product.eq(whole)]
    m.submodules[f"{name}_multiplier"] = Instance(
        MULTIPLIER_MODULE,
        p_FACTOR_CLOCK=_FACTOR_CLOCKS[cycles],
        i_clk=ClockSignal(),
        i_a=factors[0],
        i_b=factors[1],
        o_p=whole,
    )
    return product


def _bits(port: str, wire: str, count: int) -> str:
    """Return the connections of a port that the primitive has bit by bit."""
    return ", ".join(f".{port}{bit}({wire}[{bit}])" for bit in range(count))


def _names(port: str, count: int) -> str:
    """Return the names of such a port, the highest bit first."""
    return ", ".join(f"{port}{bit}" for bit in reversed(range(count)))


MULTIPLIER_VERILOG = f"""\
// A signed product of two cycles: factors and product in the registers of an ECP5's MULT18X18D.
// Without a clock for the factors it takes one cycle.
module {MULTIPLIER_MODULE} #(
    parameter FACTOR_CLOCK = "CLK0"
) (
    input wire clk,
    input wire [{FACTOR_BITS - 1}:0] a,
    input wire [{FACTOR_BITS - 1}:0] b,
    output wire [{PRODUCT_BITS - 1}:0] p
);
    MULT18X18D #(
        .REG_INPUTA_CLK(FACTOR_CLOCK), .REG_INPUTA_CE("CE0"), .REG_INPUTA_RST("RST0"),
        .REG_INPUTB_CLK(FACTOR_CLOCK), .REG_INPUTB_CE("CE0"), .REG_INPUTB_RST("RST0"),
        .REG_PIPELINE_CLK("NONE"),
        .REG_OUTPUT_CLK("CLK0"), .REG_OUTPUT_CE("CE0"), .REG_OUTPUT_RST("RST0")
    ) multiplier (
        .CLK0(clk), .CE0(1'b1), .RST0(1'b0),
        .SIGNEDA(1'b1), .SIGNEDB(1'b1), .SOURCEA(1'b0), .SOURCEB(1'b0),
        {_bits("A", "a", FACTOR_BITS)},
        {_bits("B", "b", FACTOR_BITS)},
        {_bits("P", "p", PRODUCT_BITS)}
    );
endmodule

`ifndef SYNTHESIS
// For simulation, what the module above uses of the primitive: registers of clock CLK0 or none,
// signed factors from its own ports. Synthesis, which defines SYNTHESIS, takes the device's.
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE", parameter REG_INPUTA_CE = "CE0",
    parameter REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE", parameter REG_INPUTB_CE = "CE0",
    parameter REG_INPUTB_RST = "RST0",
    parameter REG_PIPELINE_CLK = "NONE",
    parameter REG_OUTPUT_CLK = "NONE", parameter REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0"
) (
    input wire CLK0, CE0, RST0, SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input wire {_names("A", FACTOR_BITS)},
    input wire {_names("B", FACTOR_BITS)},
    output wire {_names("P", PRODUCT_BITS)}
);
    wire signed [{FACTOR_BITS - 1}:0] a = {{{_names("A", FACTOR_BITS)}}};
    wire signed [{FACTOR_BITS - 1}:0] b = {{{_names("B", FACTOR_BITS)}}};
    reg signed [{FACTOR_BITS - 1}:0] held_a, held_b;
    reg signed [{PRODUCT_BITS - 1}:0] held_p;
    wire signed [{FACTOR_BITS - 1}:0] factor_a = REG_INPUTA_CLK == "CLK0" ? held_a : a;
    wire signed [{FACTOR_BITS - 1}:0] factor_b = REG_INPUTB_CLK == "CLK0" ? held_b : b;
    wire signed [{PRODUCT_BITS - 1}:0] product = factor_a * factor_b;
    initial begin
        held_a = 0;
        held_b = 0;
        held_p = 0;
    end
    always @(posedge CLK0) begin
        held_a <= a;
        held_b <= b;
        held_p <= product;
    end
    assign {{{_names("P", PRODUCT_BITS)}}} = REG_OUTPUT_CLK == "CLK0" ? held_p : product;
endmodule
`endif
"""
