"""Machine code on the GPU: loaded once for all who use it, and launched through the driver. Needs CuPy, no Triton.

NVIDIA, "CUDA driver API": cuLaunchKernel, cuFuncSetAttribute.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from tenonrt.contracts import ExecutionError

_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_ALWAYS_THERE = 48 << 10  # bytes of shared memory for which a kernel need not ask
_modules: dict[bytes, Any] = {}
_lock = Lock()


@dataclass(frozen=True)
class Launching:
    """How machine code is called, as plain values; ``operands`` and so on as in `Program`.

    threads: of a block. shared: bytes. scratch: null pointers that follow the arguments.
    """

    name: str
    grid: Sequence[int]
    threads: int
    shared: int
    operands: Sequence[int]
    numbers: Sequence[int]
    pitches: Sequence[int]
    scratch: int

    def values(self, operands: Sequence[Any], packed: Sequence[Any]) -> list[Any]:
        """What the kernel is called with, as ctypes values. operands: outputs, then activations, as CuPy arrays."""
        arrays = [*operands, *packed]
        values: list[Any] = [ctypes.c_void_p(arrays[i].data.ptr) for i in self.operands]
        values += [ctypes.c_int32(number) for number in self.numbers]
        values += [ctypes.c_int32(operands[i].strides[-3] // operands[i].itemsize) for i in self.pitches]
        return values + [ctypes.c_void_p(None)] * self.scratch


class Launched:
    """An `Executable` of one kernel. A launch only enqueues, so that it can be recorded into a graph."""

    def __init__(self, cubin: bytes, how: Launching, packed: Sequence[Any]) -> None:
        self._how, self._packed = how, tuple(packed)
        self._function = _function(cubin, how.name)
        self._grid, self._launches = (*how.grid, 1, 1)[:3], 0 not in how.grid
        if how.shared > _ALWAYS_THERE:
            status = _driver().cuFuncSetAttribute(ctypes.c_void_p(self._function.ptr), _DYNAMIC_SHARED, how.shared)
            _check(status, f"cuFuncSetAttribute of {how.shared} bytes for {how.name}")

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        import cupy

        if not self._launches:
            return
        how, where = self._how, stream if stream is not None else cupy.cuda.get_current_stream()
        values = how.values([*outputs, *inputs], self._packed)
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        status = _driver().cuLaunchKernel(
            ctypes.c_void_p(self._function.ptr), *self._grid, how.threads, 1, 1, how.shared,
            ctypes.c_void_p(where.ptr), pointers, None,
        )  # fmt: skip
        _check(
            status, f"cuLaunchKernel of {how.name}, grid {self._grid}, {how.threads} threads, {how.shared} bytes shared"
        )


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(status: int, what: str) -> None:
    if status:
        raise ExecutionError(f"the driver's {what} returned status {status}")


def _function(cubin: bytes, name: str) -> Any:
    """A kernel of a module, which is loaded when first asked for."""
    import cupy

    key = hashlib.blake2b(cubin, digest_size=16).digest() + bytes([cupy.cuda.runtime.getDevice()])
    with _lock:
        if key not in _modules:
            module = cupy.cuda.function.Module()
            module.load(cubin)
            _modules[key] = module
        return _modules[key].get_function(name)
