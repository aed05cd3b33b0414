"""Read-only parameter memories, inline for simulation or loaded from an image file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from amaranth.hdl import Array, Cat, ClockSignal, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.multiplier import Arithmetic, Multipliers
from hw.pipeline import delayed
from hw.primitives import Primitives

ROM_MODULE = "scanwright_rom"

BLOCK_WIDTHS = {16384: 1, 8192: 2, 4096: 4, 2048: 9, 1024: 18, 512: 36}
"""Bits of a word of one block memory, by its depth."""

DENSE_DEPTH, DENSE_BITS = 2048, 9
"""The deepest block memory that loses no bit."""

LOGIC_DEPTH, LOGIC_BITS = 128, 1024
"""Memories of at most so many words or bits become logic: a block memory would be nearly empty."""

ROM_VERILOG = f"""\
// A read-only memory of two cycles: the block memory's register and an output register.
// A block memory has at least 512 words, so that a few words are cheaper in logic: banks of 64
// words, whose bit is four look-up tables of a slice pair, then the choice of the bank.
module {ROM_MODULE} #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDRESS = 1,
    parameter IMAGE = ""
) (
    input wire clk,
    input wire [ADDRESS-1:0] address,
    output reg [WIDTH-1:0] data
);
    genvar bank;
    generate
        if (DEPTH <= {LOGIC_DEPTH} || DEPTH * WIDTH <= {LOGIC_BITS}) begin : logic_memory
            localparam BANKS = (DEPTH + 63) / 64;
            localparam LOW = ADDRESS < 6 ? ADDRESS : 6;
            (* rom_style = "logic", ram_style = "logic" *)
            reg [WIDTH-1:0] words [0:DEPTH-1];
            reg [WIDTH-1:0] chosen [0:BANKS-1];
            reg [ADDRESS-1:0] last;
            initial $readmemh(IMAGE, words);
            for (bank = 0; bank < BANKS; bank = bank + 1) begin : banks
                // Without an adder or a comparison, which synthesis would give carry chains.
                localparam [ADDRESS+6:0] FIRST = bank * 64;
                localparam [63:0] FILLED =
                    DEPTH - FIRST >= 64 ? ~64'h0 : (64'h1 << (DEPTH - FIRST)) - 64'h1;
                wire [ADDRESS+6:0] place =
                    FILLED[address[LOW-1:0]] ? FIRST | address[LOW-1:0] : DEPTH - 1;
                always @(posedge clk) chosen[bank] <= words[place];
            end
            always @(posedge clk) last <= address;
            always @(posedge clk) data <= chosen[last >> 6];
        end else begin : block_memory
            (* rom_style = "block", ram_style = "block" *)
            reg [WIDTH-1:0] words [0:DEPTH-1];
            reg [WIDTH-1:0] word;
            initial $readmemh(IMAGE, words);
            always @(posedge clk) word <= words[address];
            always @(posedge clk) data <= word;
        end
    endgenerate
endmodule
"""


@dataclass
class MemoryPlan:
    """How a design is realised: where memories keep their words, and what multiplies.

    It also records every parameter memory of the design.

    Parameters
    ----------
    image_folder : None embeds the words in the design, which Amaranth's simulator needs; a folder
        name makes every memory an instance of ``scanwright_rom`` reading ``FOLDER/NAME.hex``
    multipliers : what multiplies
    dense_trits : the shared array's ternary weights take a byte for every five, not two bits each
    primitives : of which device; any but none is for generated Verilog only
    """

    image_folder: str | None = None
    multipliers: Multipliers = Multipliers.DSP
    dense_trits: bool = False
    primitives: Primitives = Primitives.NONE
    images: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

    @property
    def arithmetic(self) -> Arithmetic:
        """Return how the design's products are built."""
        return Arithmetic(self.multipliers, self.primitives)

    def add(self, name: str, width: int, words: list[int]) -> None:
        """Record a memory; names are unique within a design."""
        if name in self.images:
            raise ValueError(f"two parameter memories are called {name!r}; rename one")
        self.images[name] = (width, words)

    def hex_text(self, name: str) -> str:
        """Return the image of one memory, one word a line, as ``$readmemh`` reads it."""
        width, words = self.images[name]
        digits = (width + 3) // 4
        return "".join(f"{word:0{digits}x}\n" for word in words)


def pack_fields(values: Sequence[int], width: int) -> int:
    """Pack integers into one word, two's complement, the first lowest."""
    mask = (1 << width) - 1
    word = 0
    for position, value in enumerate(values):
        word |= (int(value) & mask) << (position * width)
    return word


def _block_depth(words: int) -> int:
    """Return the depth of the block memories that hold so many words, no word in two of them."""
    return min(depth for depth in BLOCK_WIDTHS if depth >= words)


def _blocks(words: int, width: int) -> int:
    """Return the block memories of a bank, side by side."""
    return -(-width // BLOCK_WIDTHS[_block_depth(words)])


def bank_depths(words: int, width: int) -> list[int]:
    """Return the words of each bank: as few blocks, and then as few banks, as possible.

    All banks but the last have the same depth, a power of two. Words wider than a dense block get
    banks of its depth, since other blocks would hold a part of such words in fewer blocks.
    """
    deepest = DENSE_DEPTH if width > DENSE_BITS else max(BLOCK_WIDTHS)
    plans = []
    for depth in (depth for depth in BLOCK_WIDTHS if DENSE_DEPTH <= depth <= deepest):
        whole = (words - 1) // depth
        depths = [depth] * whole + [words - whole * depth]
        plans.append((sum(_blocks(bank, width) for bank in depths), len(depths), depths))
    return min(plans)[-1]


def columns(words: int, width: int) -> list[tuple[int, list[int]]]:
    """Return width and bank depths of each part of a word, the lowest bits first.

    Where it saves blocks, the bits beyond a multiple of :data:`DENSE_BITS` get banks of their
    own, which are deeper: 64 bits of 34,560 words need 122 blocks in place of 136.
    """

    def blocks(parts: list[tuple[int, list[int]]]) -> int:
        return sum(_blocks(bank, bits) for bits, depths in parts for bank in depths)

    rest = width % DENSE_BITS
    parted = [(bits, bank_depths(words, bits)) for bits in (width - rest, rest) if bits]
    together = [(width, bank_depths(words, width))]
    return min(together, parted, key=blocks)


def _filled(depth: int) -> int:
    """Return the words of a bank's ROM, a power of two if it may be of block memories."""
    return depth if depth <= LOGIC_DEPTH else 1 << (depth - 1).bit_length()


def memory_cost(words: int, width: int) -> tuple[int, int]:
    """Return the block memories of a parameter memory, and its bits that become logic."""
    blocks = logic = 0
    for bits, depths in columns(words, width):
        for depth in map(_filled, depths):
            if depth <= LOGIC_DEPTH or depth * bits <= LOGIC_BITS:
                logic += depth * bits
            else:
                blocks += _blocks(depth, bits)
    return blocks, logic


class ParameterMemory(wiring.Component):
    """A read-only memory in banks, each with a register of its own.

    A block memory's data come late in the cycle, with time for a choice only after a register. So
    no word of a bank needs a choice, and ``data`` is the choice among the banks' registers. With
    a latency of 3 there is one more register, among every four banks.

    Latency: ``latency`` cycles from ``address`` to ``data``. Throughput: one word a cycle.

    Parameters
    ----------
    name : unique in the design; names the image file, with the bank's number if there are several
    width : bits a word
    words : unsigned contents, at least one word
    plan : where the words live
    latency : 2, or 3 for a deep memory

    Members
    -------
    address : in, ``ceil(log2(len(words)))`` bits (at least 1)
    data : out, ``width`` bits

    Raises
    ------
    ValueError
        If there are no words, one does not fit the width, or the latency is another.
    """

    latency = 2
    """Cycles of a memory for which no other is asked."""

    def __init__(
        self, *, name: str, width: int, words: Sequence[int], plan: MemoryPlan, latency: int = 2
    ) -> None:
        contents = [int(word) for word in words]
        if not contents:
            raise ValueError(f"parameter memory {name!r} has no words; give at least one")
        if min(contents) < 0 or max(contents) >> width:
            raise ValueError(f"a word of parameter memory {name!r} does not fit {width} bits")
        if latency not in (2, 3):
            raise ValueError(f"parameter memory {name!r} cannot take {latency} cycles, only 2 or 3")
        self.latency = latency
        self._plan = plan
        self._columns: list[list[_Bank]] = []
        low = 0
        for number, (bits, depths) in enumerate(columns(len(contents), width)):
            prefix = f"{name}_upper" if number else name
            self._columns.append(_banks(prefix, contents, low, bits, depths))
            low += bits
        for bank in (bank for column in self._columns for bank in column):
            plan.add(bank.name, bank.width, bank.words)
        self._address_bits = max(1, (len(contents) - 1).bit_length())
        super().__init__({"address": In(self._address_bits), "data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        m.d.comb += self.data.eq(Cat(*(self._column(m, banks) for banks in self._columns)))
        return m

    def _read(self, m: Module, bank: _Bank) -> Value:
        """Return the word of a bank, two cycles after the address."""
        address_bits = max(1, (len(bank.words) - 1).bit_length())
        output = Signal(bank.width, name=f"{bank.name}_data", reset_less=True)
        if self._plan.image_folder is None:
            m.submodules[bank.name] = words = memory.Memory(
                shape=bank.width, depth=len(bank.words), init=bank.words
            )
            port = words.read_port(domain="sync")
            m.d.comb += port.addr.eq(self.address)
            m.d.sync += output.eq(port.data)
        else:
            m.submodules[f"rom_{bank.name}"] = Instance(
                ROM_MODULE,
                p_WIDTH=bank.width,
                p_DEPTH=len(bank.words),
                p_ADDRESS=address_bits,
                p_IMAGE=f"{self._plan.image_folder}/{bank.name}.hex",
                i_clk=ClockSignal(),
                i_address=self.address[:address_bits],
                o_data=output,
            )
        return output

    def _column(self, m: Module, banks: list[_Bank]) -> Value:
        """Return some bits of the word; the upper address bits, as late, choose among the banks."""
        outputs = [self._read(m, bank) for bank in banks]
        if len(outputs) == 1:
            return delayed(m, outputs[0], self.latency - ParameterMemory.latency, name="late_data")
        index = self.address[(len(banks[0].words) - 1).bit_length() :]
        name = banks[0].name
        if self.latency > ParameterMemory.latency:
            low = delayed(m, index[:2], ParameterMemory.latency, name=f"{name}_low")
            groups = [outputs[start : start + 4] for start in range(0, len(outputs), 4)]
            outputs = [
                delayed(m, _chosen(group, low), 1, name=f"{name}_group_{number}")
                for number, group in enumerate(groups)
            ]
            index = index[2:]
        return _chosen(outputs, delayed(m, index, self.latency, name=f"{name}_index"))


@dataclass(frozen=True)
class _Bank:
    """Some bits of neighbouring words: the contents of one ROM."""

    name: str
    width: int
    words: list[int]


def _banks(
    name: str, words: Sequence[int], low: int, width: int, depths: Sequence[int]
) -> list[_Bank]:
    """Cut one column of bits out of the words and into banks, each filled up with zeros.

    With a depth of a power of two no other arrangement of the blocks takes fewer of them, so that
    synthesis has no reason to choose one that needs a choice behind the blocks.
    """
    banks, mask = [], (1 << width) - 1
    for number, depth in enumerate(depths):
        start = sum(depths[:number])
        part = [word >> low & mask for word in words[start : start + depth]]
        part += [0] * (_filled(depth) - depth)
        banks.append(_Bank(name if len(depths) == 1 else f"{name}_{number}", width, part))
    return banks


def _chosen(values: Sequence[Value], index: Value) -> Value:
    """Return ``values[index]``."""
    return Array(values)[index] if len(values) > 1 else values[0]
