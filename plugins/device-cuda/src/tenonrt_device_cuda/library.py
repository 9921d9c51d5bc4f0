"""CuPy and the driver, imported when a GPU is wanted: an installation without one has neither."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from tenonrt.contracts import ExecutionError

_INSTALL = "install CuPy for your driver: pip install 'tenonrt-device-cuda[cuda13]', or [cuda12]"


@cache
def cupy() -> Any:
    """CuPy with a usable GPU; `ExecutionError` says what is missing."""
    try:
        import cupy as found
    except ImportError as error:
        raise ExecutionError(f"the device 'cuda' needs CuPy ({error}); {_INSTALL}") from error
    try:
        count = found.cuda.runtime.getDeviceCount()
    except found.cuda.runtime.CUDARuntimeError as error:
        raise ExecutionError(f"no NVIDIA GPU can be used: {error}; see whether nvidia-smi shows one") from error
    if not count:
        raise ExecutionError("there is no NVIDIA GPU; see whether nvidia-smi shows one")
    return found


@cache
def driver() -> ctypes.CDLL:
    """The driver's own library, for what CuPy does not show."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise ExecutionError(f"the NVIDIA driver's library cannot be loaded: {error}") from error
