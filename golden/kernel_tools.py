"""How the executor's loops are compiled, and the rounding that all of them share.

numba keeps machine code beside a kernel's file and compiles again when that file changes, but not
when this one does: whoever changes :func:`narrow` removes ``golden/__pycache__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile what Python calls; the machine code is kept beside the source for later runs."""
    return cast(Function, numba.njit(cache=True, nogil=True)(function))


def helper(function: Function) -> Function:
    """Compile what only kernels call, as a part of them."""
    return cast(Function, numba.njit(function))


def reordered(function: Function) -> Function:
    """Compile a helper whose exact sums may be taken in any order, as vectorising them needs."""
    return cast(Function, numba.njit(fastmath={"reassoc"})(function))


@helper
def narrow(value: float, limit: float) -> float:
    """Round half to even and saturate to ``-limit - 1 .. limit``."""
    return min(max(np.rint(value), -limit - 1.0), limit)
