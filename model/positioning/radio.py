"""What both kinds of data share: the shape of a channel frame and its delay taps.

The LuViRA radio part (I. Yaman et al., ICRA 2024, doi 10.1109/ICRA57147.2024.10610237) was measured
with the LuMaMi testbed: 100 antennas, 100 frequency points, 100 frames a second at 3.7 GHz.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "ANTENNAS", "BANDWIDTH", "CARRIER", "LIGHT", "SUBCARRIERS", "SUBCARRIER_STEP", "TAPS",
    "WAVELENGTH", "Complexes", "Reals", "delay_taps",
]  # fmt: skip

Complexes = npt.NDArray[np.complex64]
Reals = npt.NDArray[np.float64]

LIGHT = 299_792_458.0  # m/s
CARRIER = 3.7e9  # Hz
BANDWIDTH = 20e6  # Hz
ANTENNAS, SUBCARRIERS, TAPS = 100, 100, 10
SUBCARRIER_STEP = BANDWIDTH / SUBCARRIERS
WAVELENGTH = LIGHT / CARRIER  # 81 mm


def delay_taps(channel: npt.NDArray[np.complexfloating]) -> Complexes:
    """Return the first 10 taps (n, 10, antennas) of channels (n, subcarriers, antennas).

    The inverse DFT over the subcarriers, with its factor 1 / subcarriers.
    """
    return np.fft.ifft(channel, axis=1)[:, :TAPS].astype(np.complex64)
