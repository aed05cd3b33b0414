"""Control and status registers on AXI4-Lite; :mod:`hw.register_map` documents them."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from golden.program import Program
from hw.lanes import Lanes
from hw.pipeline import index_bits
from hw.register_map import FORMAT_VERSION, IDENTIFICATION, Register

__all__ = ["ControlRegisters", "address_bits", "state_widths"]

OKAY, SLVERR = 0, 2
_BYTES, _BITS = 4, 32
_UNITS = ("scan", "window")


def state_widths(program: Program, lanes: Lanes) -> list[int]:
    """Return the bits of a word of the scan's state, or of averages, and of the windows.

    A moving average's convolution looks ahead over whole frames and keeps no windows: 0 bits.
    """
    scheme, shape = program.scheme, program.shape
    if shape.average is not None:
        return [lanes.scan * scheme.average_bits, 0]
    return [lanes.scan * scheme.state_bits, (shape.d_conv - 1) * scheme.activation_bits]


def address_bits(program: Program, lanes: Lanes) -> int:
    """Return the width of the AXI4-Lite addresses, at least 8."""
    parts = max(-(-width // _BITS) for width in state_widths(program, lanes))
    return max(8, (Register.STATE_DATA + parts * _BYTES - 1).bit_length())


@dataclass(frozen=True)
class _Write:
    """One write to carry out: ``now`` is high for a cycle; ``refused`` is set by the decoder."""

    now: Signal
    address: Signal
    data: Signal
    strobe: Signal
    refused: Signal

    def merged(self, old: Value) -> Value:
        """Return ``old``, of 32 bits at most, with the bytes that the write strobes."""
        return Cat(
            Mux(self.strobe[byte], self.data.word_select(byte, 8), old[8 * byte : 8 * byte + 8])
            for byte in range(_BYTES)
        )[: len(old)]


@dataclass(frozen=True)
class _StateAccess:
    """Registers and conditions of the way to the state memories.

    ``allowed``: the engine is paused and the address exists; ``writing`` and ``stepping`` are
    pulses, to the memory and to the address.
    """

    select: Signal
    step: Signal
    address: Signal
    shadow: Signal
    writing: Signal
    stepping: Signal
    paused: Signal
    allowed: Signal


class ControlRegisters(wiring.Component):
    """Answers AXI4-Lite accesses one at a time in each direction.

    Latency: the answer to a write comes 2 cycles after the later one of address and data, to a
    read 2 cycles after its address, to one of STATE_DATA ``access_latency`` later. Throughput: one
    access in one cycle more.

    Parameters
    ----------
    program : the network, source of the shape words and of the state words' widths
    lanes : parallelism and contexts of the engine; of a frame network those of the scan count
    access_latency : of the engine's state access
    emit_logits : initial value of that bit of CONTROL

    Members
    -------
    s_axil_* : AXI4-Lite subordinate, :func:`address_bits` of address and 32 of data
    hold, reset_at_last, emit_logits : out, levels
    selected : out, the context that requests, ``starts_fresh`` and the state access are about
    reset_request, resume_request : out, pulses
    idle, starts_fresh, accepted, running : in, from the engine; ``running`` is the sequencer's
    token_valid : in, a token is offered to the engine
    scan_access_*, window_access_* : mirrored from the engine

    Raises
    ------
    ValueError
        If the latency is not positive.
    """

    def __init__(
        self, *, program: Program, lanes: Lanes, access_latency: int, emit_logits: bool = True
    ) -> None:
        if access_latency < 1:
            raise ValueError(f"access_latency = {access_latency} is not positive")
        shape, scheme = program.shape, program.scheme
        lanes.check(shape)
        channels = shape.n_layer * shape.d_inner
        self._contexts = lanes.contexts
        self._access_latency = access_latency
        self._widths = state_widths(program, lanes)
        convolved = shape.convolution_channels if self._widths[1] else 0
        self._depths = [channels * shape.d_state // lanes.scan, shape.n_layer * convolved]
        self._units = [unit for unit, depth in zip(_UNITS, self._depths, strict=True) if depth]
        inputs = (shape.d_conv - 1) << 16 | scheme.activation_bits
        self._address_bits = address_bits(program, lanes)
        self._constants = {
            Register.IDENTIFICATION: IDENTIFICATION,
            Register.FORMAT_VERSION: FORMAT_VERSION,
            Register.VOCABULARY: shape.vocabulary,
            Register.LAYERS: shape.n_layer,
            Register.D_MODEL: shape.d_model,
            Register.D_INNER: shape.d_inner,
            Register.D_STATE: shape.d_state,
            Register.D_CONV: shape.d_conv,
            Register.STATE_FORMAT: lanes.scan << 16 | self._widths[0] // lanes.scan,
            Register.WINDOW_FORMAT: inputs if convolved else 0,
            Register.CONTEXTS: lanes.contexts,
            Register.CONVOLVED: convolved,
        }
        super().__init__(self._members(emit_logits=emit_logits))

    @property
    def parts(self) -> list[int]:
        """Data words of a state word, of each memory."""
        return [-(-width // _BITS) for width in self._widths]

    def _members(self, *, emit_logits: bool) -> dict[str, In | Out]:
        members: dict[str, In | Out] = {
            "s_axil_awaddr": In(self._address_bits),
            "s_axil_awvalid": In(1),
            "s_axil_awready": Out(1, init=1),
            "s_axil_wdata": In(_BITS),
            "s_axil_wstrb": In(_BYTES),
            "s_axil_wvalid": In(1),
            "s_axil_wready": Out(1, init=1),
            "s_axil_bresp": Out(2),
            "s_axil_bvalid": Out(1),
            "s_axil_bready": In(1),
            "s_axil_araddr": In(self._address_bits),
            "s_axil_arvalid": In(1),
            "s_axil_arready": Out(1, init=1),
            "s_axil_rdata": Out(_BITS),
            "s_axil_rresp": Out(2),
            "s_axil_rvalid": Out(1),
            "s_axil_rready": In(1),
            "hold": Out(1),
            "reset_at_last": Out(1, init=1),
            "emit_logits": Out(1, init=int(emit_logits)),
            "selected": Out(index_bits(self._contexts)),
            "reset_request": Out(1),
            "resume_request": Out(1),
            "idle": In(1),
            "starts_fresh": In(1),
            "accepted": In(1),
            "running": In(1),
            "token_valid": In(1),
        }
        for unit, depth, width in zip(self._units, self._depths, self._widths, strict=False):
            members |= {
                f"{unit}_access_address": Out(index_bits(depth)),
                f"{unit}_access_write": Out(1),
                f"{unit}_access_write_data": Out(width),
                f"{unit}_access_read_data": In(width),
            }
        return members

    def elaborate(self, platform: object) -> Module:
        del platform
        m = Module()
        state = self._state_access(m)
        write = self._write_channel(m)
        counters = self._counters(m)
        self._decode_write(m, write, state)
        address, now = self._read_channel(m)
        self._decode_read(m, address, now, state, counters)
        return m

    def _write_channel(self, m: Module) -> _Write:
        """Take address and data in any order, answer once both were carried out."""
        write = _Write(
            now=Signal(name="write_now"),
            address=Signal(self._address_bits - 2, name="write_address"),
            data=Signal(_BITS, name="write_data"),
            strobe=Signal(_BYTES, name="write_strobe"),
            refused=Signal(name="write_refused"),
        )
        # A channel's ready is low exactly while its register holds something.
        m.d.comb += write.now.eq(~self.s_axil_awready & ~self.s_axil_wready & ~self.s_axil_bvalid)
        with m.If(self.s_axil_bvalid & self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(self.s_axil_awvalid & self.s_axil_awready):
            m.d.sync += [write.address.eq(self.s_axil_awaddr[2:]), self.s_axil_awready.eq(0)]
        with m.If(self.s_axil_wvalid & self.s_axil_wready):
            m.d.sync += [
                write.data.eq(self.s_axil_wdata),
                write.strobe.eq(self.s_axil_wstrb),
                self.s_axil_wready.eq(0),
            ]
        with m.If(write.now):
            m.d.sync += [
                self.s_axil_awready.eq(1),
                self.s_axil_wready.eq(1),
                self.s_axil_bvalid.eq(1),
                self.s_axil_bresp.eq(Mux(write.refused, SLVERR, OKAY)),
            ]
        return write

    def _read_channel(self, m: Module) -> tuple[Signal, Signal]:
        """Return the address being read and the cycle in which its data is taken."""
        address, now = Signal(self._address_bits - 2, name="read_address"), Signal(name="read_now")
        remaining = Signal(range(self._access_latency + 1))
        m.d.comb += now.eq(~self.s_axil_arready & ~self.s_axil_rvalid & (remaining == 0))
        with m.If(self.s_axil_rvalid & self.s_axil_rready):
            m.d.sync += [self.s_axil_rvalid.eq(0), self.s_axil_arready.eq(1)]
        with m.If(remaining.any()):
            m.d.sync += remaining.eq(remaining - 1)
        with m.If(self.s_axil_arvalid & self.s_axil_arready):
            fetches = self.s_axil_araddr >= Register.STATE_DATA
            m.d.sync += [
                address.eq(self.s_axil_araddr[2:]),
                self.s_axil_arready.eq(0),
                remaining.eq(Mux(fetches, self._access_latency, 0)),
            ]
        with m.If(now):
            m.d.sync += self.s_axil_rvalid.eq(1)
        return address, now

    def _counters(self, m: Module) -> dict[Register, Signal]:
        """Count tokens, busy cycles and cycles in which a token waited for room or hold."""
        events = {
            Register.TOKENS: self.accepted,
            Register.BUSY_CYCLES: ~self.idle,
            Register.STALLED_CYCLES: self.token_valid & ~self.accepted & ~self.running,
        }
        counters = {}
        for register, event in events.items():
            counters[register] = counter = Signal(_BITS, name=register.name.lower())
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
        return counters

    def _state_access(self, m: Module) -> _StateAccess:
        """Connect address and shadow to both memories; step the address after a write."""
        state = _StateAccess(
            select=Signal(name="state_select"),
            step=Signal(name="state_step"),
            address=Signal(_BITS, name="state_address"),
            shadow=Signal(max(self.parts) * _BITS, name="state_shadow", reset_less=True),
            writing=Signal(name="state_writing"),
            stepping=Signal(name="state_stepping"),
            paused=Signal(name="paused"),
            allowed=Signal(name="state_allowed"),
        )
        depth = Mux(state.select, *reversed(self._depths))
        inside = Signal(name="state_inside")
        m.d.comb += [
            # A token can still be taken in the first cycle of hold; in the next, idle tells.
            state.paused.eq(self.hold & self.idle & ~self.accepted),
            state.allowed.eq(state.paused & inside),
        ]
        # Its register is up to date before the access that follows a change of the address.
        m.d.sync += [inside.eq(state.address < depth)]
        m.d.sync += [state.writing.eq(0), state.stepping.eq(0)]
        # One cycle behind the write, which still needs the address.
        with m.If(state.stepping & state.step):
            m.d.sync += state.address.eq(state.address + 1)
        for number, unit in enumerate(self._units):
            m.d.comb += [
                getattr(self, f"{unit}_access_address").eq(state.address),
                getattr(self, f"{unit}_access_write").eq(state.writing & (state.select == number)),
                getattr(self, f"{unit}_access_write_data").eq(state.shadow),
            ]
        return state

    def _decode_write(self, m: Module, write: _Write, state: _StateAccess) -> None:
        """Carry out a write, or refuse it as a whole."""
        control = Cat(self.hold, self.reset_at_last, self.emit_logits)
        selection = Cat(state.select, state.step)
        m.d.sync += [self.reset_request.eq(0), self.resume_request.eq(0)]
        m.d.comb += write.refused.eq(1)
        with m.If(write.now), m.Switch(write.address):
            for register, target in (
                (Register.CONTROL, control),
                (Register.STATE_SELECT, selection),
                (Register.STATE_ADDRESS, state.address),
            ):
                with m.Case(register // _BYTES):
                    m.d.comb += write.refused.eq(0)
                    m.d.sync += target.eq(write.merged(target))
            with m.Case(Register.CONTEXT // _BYTES):
                chosen = write.merged(Cat(self.selected, Const(0, _BITS - len(self.selected))))
                m.d.comb += write.refused.eq(chosen >= self._contexts)
                with m.If(~write.refused):
                    m.d.sync += self.selected.eq(chosen)
            with m.Case(Register.COMMAND // _BYTES):
                reset, resume, commit = (write.data[bit] & write.strobe[0] for bit in range(3))
                m.d.comb += write.refused.eq((resume & ~state.paused) | (commit & ~state.allowed))
                with m.If(~write.refused):
                    m.d.sync += [
                        self.reset_request.eq(reset),
                        self.resume_request.eq(resume),
                        state.writing.eq(commit),
                    ]
            for part in range(max(self.parts)):
                with m.Case(Register.STATE_DATA // _BYTES + part):
                    m.d.comb += write.refused.eq(~state.allowed)
                    with m.If(state.allowed):
                        self._write_part(m, write, state, part)

    def _write_part(self, m: Module, write: _Write, state: _StateAccess, part: int) -> None:
        """Fill one part of the shadow; the last one starts the write to the memory."""
        target = state.shadow.word_select(part, _BITS)
        m.d.sync += target.eq(write.merged(target))
        with m.If(self._is_last(state, part) & write.strobe.any()):
            m.d.sync += [state.writing.eq(1), state.stepping.eq(1)]

    def _is_last(self, state: _StateAccess, part: int) -> Value:
        """Return whether a data word is the last one of the selected memory's words."""
        return Mux(state.select, *(Const(part == parts - 1, 1) for parts in reversed(self.parts)))

    def _decode_read(
        self,
        m: Module,
        address: Signal,
        now: Signal,
        state: _StateAccess,
        counters: dict[Register, Signal],
    ) -> None:
        """Choose the answer to a read."""
        values: dict[Register, Value | int] = {
            **self._constants,
            **counters,
            Register.CONTROL: Cat(self.hold, self.reset_at_last, self.emit_logits),
            Register.COMMAND: 0,
            Register.STATUS: Cat(self.idle & ~self.accepted, self.starts_fresh, state.paused),
            Register.STATE_SELECT: Cat(state.select, state.step),
            Register.STATE_ADDRESS: state.address,
            Register.CONTEXT: self.selected,
        }
        word = Signal(max(self.parts) * _BITS, name="state_word")
        read = [getattr(self, f"{unit}_access_read_data") for unit in self._units]
        memories = read[0] if len(read) == 1 else Mux(state.select, *reversed(read))
        # A state that the next token will not see is zero to the outside as well.
        m.d.comb += word.eq(Mux(self.starts_fresh, 0, memories))
        data, refused = Signal(_BITS, name="read_data"), Signal(name="read_refused", init=1)
        with m.Switch(address):
            for register, value in values.items():
                with m.Case(register // _BYTES):
                    m.d.comb += [data.eq(value), refused.eq(0)]
            for part in range(max(self.parts)):
                with m.Case(Register.STATE_DATA // _BYTES + part), m.If(state.allowed):
                    m.d.comb += [data.eq(word.word_select(part, _BITS)), refused.eq(0)]
                    with m.If(now & self._is_last(state, part)):
                        m.d.sync += state.stepping.eq(1)
        with m.If(now):
            m.d.sync += [
                self.s_axil_rdata.eq(data),
                self.s_axil_rresp.eq(Mux(refused, SLVERR, OKAY)),
            ]
