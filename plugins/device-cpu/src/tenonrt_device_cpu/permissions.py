"""What a process must ask the system for before it may run some instructions: the tile registers of AMX.

Linux saves their 8 KiB at a switch of threads only for processes that have asked (Documentation/arch/x86/xstate.rst).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Sequence
from functools import lru_cache

from tenonrt.contracts import ExecutionError

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


def permit(features: Sequence[str]) -> None:
    """Ask for what code with these features needs; `ExecutionError` when the system refuses."""
    if any(feature.startswith("amx_") for feature in features) and (error := _request_tiles()):
        raise ExecutionError(f"the system does not let this process use AMX: {os.strerror(error)}")


def permits_tiles() -> bool:
    """Whether code may use tile registers; the system, or a small signal stack, may be against it."""
    return not _request_tiles()


@lru_cache(maxsize=1)
def _request_tiles() -> int:
    """0, or the error number. One permission holds for all threads of a process, and for those that it starts."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return 38  # ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) else 0
