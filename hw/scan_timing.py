"""When the scan engine samples its inputs and shows its outputs, from its units' latencies."""

from __future__ import annotations

from golden.errors import InputError
from hw.delta_unit import DeltaUnit
from hw.scan_drive import ScanDrive
from hw.scan_lane import ScanLane
from hw.scan_operands import ScanOperands
from hw.scan_readout import ScanReadout
from hw.scan_state import ScanState

__all__ = ["ScanTiming"]


class ScanTiming:
    """The cycles of :class:`hw.scan_engine.ScanEngine`, counted from the one of ``start``.

    A channel's step size comes first; each lane needs its operands at a fixed distance behind it,
    and the read-out is placed so that it meets the lanes' products.
    """

    _delta: DeltaUnit
    _drive: ScanDrive
    _lanes: list[ScanLane]
    _operands: ScanOperands
    _readout: ScanReadout
    _state: ScanState
    _steps: int
    _channels: int

    @property
    def interval(self) -> int:
        """Cycles between channels, T."""
        return self._steps

    @property
    def multipliers(self) -> int:
        """Multipliers of dt_proj, M."""
        return self._delta.products

    @property
    def projected_offset_dt(self) -> int:
        """Cycle in which dt is first sampled; one cycle registers ``start``."""
        return 1 + self._delta.dt_offset

    @property
    def delta_latency(self) -> int:
        """Cycle of channel 0 at ``delta``."""
        return 1 + self._delta.latency

    @property
    def _lane_offset(self) -> int:
        """Cycle of channel 0's delta at the lanes, behind the register that holds it."""
        return self.delta_latency + 1

    @property
    def _operand_latency(self) -> int:
        return self._operands.latency

    @property
    def scan_u_offset(self) -> int:
        """Cycle in which the scan input of channel 0 is read."""
        return self._lane_offset + self._lanes[0].drive_offset - self._drive.latency

    @property
    def projected_offset_bc(self) -> int:
        """Cycle in which B is first sampled; C comes later."""
        return self._lane_offset + self._lanes[0].drive_offset - self._operand_latency

    @property
    def projected_offset_c(self) -> int:
        """Cycle in which C is first sampled."""
        return self.state_latency - self._operand_latency

    @property
    def state_latency(self) -> int:
        """Cycle of channel 0's first word at ``state``."""
        return self._lane_offset + self._lanes[0].state_offset

    @property
    def _readout_offset(self) -> int:
        """Cycle of the read-out's own start."""
        return self._lane_offset + self._lanes[0].latency - self._readout.product_offset

    @property
    def gate_offset(self) -> int:
        """Cycle in which the gate of channel 0 is read."""
        return self._readout_offset + self._readout.gate_offset

    @property
    def scan_output_latency(self) -> int:
        """Cycle of channel 0 at ``scan_output``."""
        return self._readout_offset + self._readout.output_latency

    @property
    def latency(self) -> int:
        """Cycle of channel 0 at ``gated``."""
        return self._readout_offset + self._readout.latency

    @property
    def duration(self) -> int:
        """Cycles from a start to the earliest next one: the cycle after the last result."""
        return self.latency + (self._channels - 1) * self._steps + 1

    @property
    def access_latency(self) -> int:
        """Cycles from ``access_address`` to ``access_read_data``."""
        return self._state.latency

    @property
    def hazard_depth(self) -> int:
        """Cycles from the read of a state to the first read that sees its update."""
        lane = self._lanes[0]
        written = lane.state_offset + self._state.write_latency
        return written + 1 - (lane.old_offset - self._state.latency)

    def check_recurrence(self, distance: int) -> None:
        """Refuse a schedule that reads a state again before its update is written.

        Raises
        ------
        InputError
            If ``distance``, the cycles between two updates of one state, is below
            ``hazard_depth``.
        """
        if distance < self.hazard_depth:
            raise InputError(
                f"the scan updates a state every {distance} cycles, but an update is readable "
                f"only {self.hazard_depth} cycles after its read; schedule tokens further apart"
            )

    @property
    def _state_read_cycle(self) -> int:
        """Cycle in which channel 0's first state is addressed."""
        return self._lane_offset + self._lanes[0].old_offset - self._state.latency
