"""The shipped machine code of this machine, as functions to call."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import lru_cache
from pathlib import Path

import msgspec

from tenonrt_device_cpu.memory import mapped

_WORD = ctypes.c_void_p


class Loop:
    """The functions of the compiled loop, and the addresses of libc that they need. Calls release Python's lock."""

    def __init__(self, blob: bytes, entries: dict[str, int]) -> None:
        self._memory = mapped(blob)
        base = self._memory.address
        self.run_alone = ctypes.CFUNCTYPE(ctypes.c_int64, _WORD)(base + entries["run_alone"])
        self.run_shared = ctypes.CFUNCTYPE(ctypes.c_int64, _WORD, _WORD)(base + entries["run_shared"])
        self.work = ctypes.CFUNCTYPE(None, _WORD, ctypes.c_int64)(base + entries["work"])
        self.stop = ctypes.CFUNCTYPE(None, _WORD)(base + entries["stop"])
        libc = ctypes.CDLL(None)
        self.syscall, self.clock = (ctypes.cast(f, _WORD).value or 0 for f in (libc.syscall, libc.clock_gettime))


@lru_cache(maxsize=1)
def loop() -> Loop | None:
    """None on machines for which no code is shipped; there Python calls the steps one by one."""
    return load(sys.platform, platform.machine())


def load(system: str, machine: str) -> Loop | None:
    """The loop for a system and a machine, None when the distribution has none."""
    folder = Path(__file__).parent / "code"  # importlib.resources takes longer than loading a plan
    described = folder / f"{machine}.json"
    if system != "linux" or sys.maxsize < 2**32 or not described.is_file():
        return None
    entries = msgspec.json.decode(described.read_bytes())["entries"]  # `json` takes longer to import than this to run
    return Loop((folder / f"{machine}.bin").read_bytes(), entries)
