"""What NVIDIA's management library tells of a GPU: clocks and energy. Nothing is ever set."""

from __future__ import annotations

import ctypes
from functools import cache

from tenonrt_device_cuda.library import cupy

_SM, _MEMORY = 1, 2  # nvmlClockType_t


@cache
def _library() -> ctypes.CDLL | None:
    """The library, None where the driver comes without it."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None


@cache
def _handle() -> ctypes.c_void_p | None:
    """The GPU that CUDA calls the current one, by its address on the bus."""
    library, runtime = _library(), cupy().cuda.runtime
    if library is None:
        return None
    handle, address = ctypes.c_void_p(), runtime.deviceGetPCIBusId(runtime.getDevice()).encode()
    return handle if library.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(handle)) == 0 else None


def clock_limits() -> str:
    """The highest clocks of processors and memory in MHz; "unknown" where nobody tells."""
    library, handle = _library(), _handle()
    if library is None or handle is None:
        return "unknown"
    found = []
    for kind in (_SM, _MEMORY):
        clock = ctypes.c_uint()
        status = library.nvmlDeviceGetMaxClockInfo(handle, kind, ctypes.byref(clock))
        found.append("unknown" if status else str(clock.value))
    return "/".join(found)


def energy_joules() -> float | None:
    """Energy used since the driver was loaded; None where the GPU does not count it."""
    library, handle = _library(), _handle()
    if library is None or handle is None:
        return None
    millijoules = ctypes.c_ulonglong()
    status = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules))
    return None if status else millijoules.value * 1e-3
