"""Read-only parameter memories, inline for simulation or loaded from an image file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from amaranth.hdl import Array, ClockSignal, Instance, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hw.multiplier import Multipliers

ROM_MODULE = "scanwright_rom"

BANK_DEPTH = 4096
"""Words of a bank. A choice among more block memories, behind whose clock they come late, has
time only after a register: so a deep memory is banks with registers of their own."""

LOGIC_DEPTH = 128
"""Memories of at most so many words become logic: a block memory would be nearly empty."""

ROM_VERILOG = f"""\
// A read-only memory of two cycles: the block memory's register and an output register.
// A block memory has at least 512 words, so that a few words are cheaper in logic: banks of 16
// words, one look-up table a bit, then the choice of the bank.
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
        if (DEPTH <= {LOGIC_DEPTH}) begin : logic_memory
            localparam BANKS = (DEPTH + 15) / 16;
            localparam LOW = ADDRESS < 4 ? ADDRESS : 4;
            (* rom_style = "logic", ram_style = "logic" *)
            reg [WIDTH-1:0] words [0:DEPTH-1];
            reg [WIDTH-1:0] chosen [0:BANKS-1];
            reg [ADDRESS-1:0] last;
            initial $readmemh(IMAGE, words);
            for (bank = 0; bank < BANKS; bank = bank + 1) begin : banks
                wire [ADDRESS+4:0] place = bank * 16 + address[LOW-1:0];
                always @(posedge clk) chosen[bank] <= words[place < DEPTH ? place : DEPTH - 1];
            end
            always @(posedge clk) last <= address;
            always @(posedge clk) data <= chosen[last >> 4];
        end else begin : block_memory
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
    """

    image_folder: str | None = None
    multipliers: Multipliers = Multipliers.DSP
    images: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

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


class ParameterMemory(wiring.Component):
    """A read-only memory with registered output.

    Latency: 2 cycles from ``address`` to ``data``. Throughput: one word a cycle. Beyond
    :data:`BANK_DEPTH` words ``data`` is the choice among the banks' registers.

    Parameters
    ----------
    name : unique in the design; names the image file, with the bank's number if there are several
    width : bits a word
    words : unsigned contents, at least one word
    plan : where the words live

    Members
    -------
    address : in, ``ceil(log2(len(words)))`` bits (at least 1)
    data : out, ``width`` bits

    Raises
    ------
    ValueError
        If there are no words or one does not fit the width.
    """

    latency = 2

    def __init__(self, *, name: str, width: int, words: Sequence[int], plan: MemoryPlan) -> None:
        contents = [int(word) for word in words]
        if not contents:
            raise ValueError(f"parameter memory {name!r} has no words; give at least one")
        if min(contents) < 0 or max(contents) >> width:
            raise ValueError(f"a word of parameter memory {name!r} does not fit {width} bits")
        self._width, self._words, self._plan = width, contents, plan
        starts = range(0, len(contents), BANK_DEPTH)
        self._banks = {
            name if len(starts) == 1 else f"{name}_{number}": contents[start : start + BANK_DEPTH]
            for number, start in enumerate(starts)
        }
        for bank, part in self._banks.items():
            plan.add(bank, width, part)
        self._address_bits = max(1, (len(contents) - 1).bit_length())
        super().__init__({"address": In(self._address_bits), "data": Out(width)})

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        if self._plan.image_folder is not None:
            self._connect_banks(m, self._plan.image_folder)
            return m
        m.submodules.words = words = memory.Memory(
            shape=self._width, depth=len(self._words), init=self._words
        )
        port = words.read_port(domain="sync")
        register = Signal(self._width)
        m.d.comb += port.addr.eq(self.address)
        m.d.sync += register.eq(port.data)
        m.d.comb += self.data.eq(register)
        return m

    def _connect_banks(self, m: Module, folder: str) -> None:
        """Add one ROM a bank; the upper address bits, two cycles later, choose among them."""
        outputs = []
        for number, (name, part) in enumerate(self._banks.items()):
            address_bits = max(1, (len(part) - 1).bit_length())
            output = Signal(self._width, name=f"{name}_data")
            rom = Instance(
                ROM_MODULE,
                p_WIDTH=self._width,
                p_DEPTH=len(part),
                p_ADDRESS=address_bits,
                p_IMAGE=f"{folder}/{name}.hex",
                i_clk=ClockSignal(),
                i_address=self.address[:address_bits],
                o_data=output,
            )
            m.submodules["rom" if len(self._banks) == 1 else f"rom_{number}"] = rom
            outputs.append(output)
        bank: Value = self.address[(BANK_DEPTH - 1).bit_length() :]
        for age in range(self.latency if len(outputs) > 1 else 0):
            register = Signal(len(bank), name=f"bank_{age}", reset_less=True)
            m.d.sync += register.eq(bank)
            bank = register
        m.d.comb += self.data.eq(Array(outputs)[bank] if len(outputs) > 1 else outputs[0])
