"""Machine code on the GPU: loaded once for all who use it, and launched."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cache
from threading import Lock
from typing import Any

from tenonrt_kernel_nvrtc.launching import PORTABLE_CLUSTER, allow_cluster, allow_shared, follows_one_kernel, launch

# Architectures whose own instructions (wgmma and others) NVRTC uses only for the name with an "a".
_SPECIFIC = frozenset({"90", "100", "120"})
_DEFAULT = "sm_90a"
_modules: dict[bytes, Any] = {}
_lock = Lock()


@cache
def architecture() -> str:
    """That of the current GPU; Hopper's where there is none, for code can be compiled anywhere."""
    try:
        import cupy

        capability = cupy.cuda.Device().compute_capability
    except Exception:  # noqa: BLE001 - CuPy raises errors of many kinds where it finds no driver
        return _DEFAULT
    return f"sm_{capability}{'a' if capability in _SPECIFIC else ''}"


def function(cubin: bytes, name: str) -> Any:
    """A kernel of a module, which is loaded when first asked for."""
    import cupy

    key = hashlib.blake2b(cubin, digest_size=16).digest() + bytes([cupy.cuda.runtime.getDevice()])
    with _lock:
        if key not in _modules:
            module = cupy.cuda.function.Module()
            module.load(cubin)
            _modules[key] = module
        return _modules[key].get_function(name)


class Launched:
    """An `Executable` of one kernel: outputs, inputs and packed weights as pointers, then the given numbers.

    pitches: operands (positions in outputs + inputs) whose pixels may lie further apart than they are wide; the
    distance in elements is passed after the pointers. early: the kernel itself waits for the one before it. cluster:
    blocks of a cluster, which the machine code asks for itself.
    """

    def __init__(
        self, cubin: bytes, packed: Sequence[Any], grid: Sequence[int], block: Sequence[int],
        pitches: Sequence[int] = (), name: str = "kernel", shared: int = 0, early: bool = False, cluster: int = 1,
    ) -> None:  # fmt: skip
        self._function = function(cubin, name)
        self._packed = tuple(packed)
        self._grid, self._block, self._shared, self._early = tuple(grid), tuple(block), shared, early
        self._pitches = tuple(pitches)
        if shared > 48 << 10:
            allow_shared(self._function.ptr, shared)
        if cluster > PORTABLE_CLUSTER:
            allow_cluster(self._function.ptr, self._grid, self._block, shared, cluster)

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        import cupy

        if 0 in self._grid:
            return
        where = stream.ptr if stream is not None else cupy.cuda.get_current_stream().ptr
        early = self._early and follows_one_kernel(where)
        launch(self._function.ptr, self._grid, self._block, self._shared, where, self.values(inputs, outputs), early)

    def values(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """What the kernel is called with, as ctypes values."""
        operands = (*outputs, *inputs)
        values: list[Any] = [ctypes.c_void_p(array.data.ptr) for array in (*operands, *self._packed)]
        return values + [ctypes.c_int32(operands[i].strides[-3] // operands[i].itemsize) for i in self._pitches]
