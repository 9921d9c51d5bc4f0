"""Permission to use tile registers (AMX): Linux gives a process their 8 KiB of state only when it asks.

"Using XSTATE features in user space applications", Documentation/arch/x86/xstate.rst of the Linux kernel.
"""

from __future__ import annotations

import ctypes
import platform
from functools import lru_cache

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@lru_cache
def permitted() -> bool:
    """Ask once, for all threads that there are and will be; False where the system or a small signal stack refuses."""
    if platform.machine() != "x86_64" or platform.system() != "Linux":
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0
