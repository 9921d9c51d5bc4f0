"""The device plugin: aligned memory, copies, and the way from launches to something that runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Device, ExecutionError, Launch, NativeCall, Runnable

from tenonrt_device_cpu.fingerprint import fingerprint
from tenonrt_device_cpu.line import StraightLine
from tenonrt_device_cpu.loading import load

ALIGNMENT = 64  # a cache line, and the width of an AVX-512 register


class CpuDevice(Device):
    """The processor this Python runs on. Work is done when `Runnable.run` returns, so there are no streams."""

    def fingerprint(self) -> dict[str, str]:
        return fingerprint()

    def allocate(self, nbytes: int) -> Array:
        """``nbytes`` zeroed bytes, 64-byte aligned. Touched here, so that no page fault lands in a timed run."""
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        buffer = raw[start : start + nbytes]
        buffer.fill(0)
        return buffer

    def upload(self, host: Array, buffer: Any) -> None:
        _typed(buffer, host)[...] = host

    def download(self, buffer: Any, host: Array) -> None:
        host[...] = _typed(buffer, host)

    def bind(self, launches: Sequence[Launch], threads: int) -> Runnable:
        """`ExecutionError` names a step with a misaligned buffer, an undeclared stride or nothing to call."""
        return StraightLine(launches, threads)

    def load(self, code: Code, packed: Sequence[Array]) -> NativeCall:
        """`ExecutionError` names the features that this processor lacks."""
        return load(code, packed)


def _typed(buffer: Array, like: Array) -> Array:
    """The first bytes of a buffer, seen with the element type and shape of a host array."""
    if like.dtype.hasobject:
        raise ExecutionError("strings have no bytes that a device could hold; keep the tensor on the host")
    if buffer.dtype == like.dtype and buffer.shape == like.shape:
        return buffer  # as it is: a slice of a larger buffer has no bytes in a row
    if buffer.nbytes < like.nbytes:
        raise ExecutionError(f"a buffer of {buffer.nbytes} bytes cannot hold {like.dtype}{list(like.shape)}")
    return buffer.reshape(-1).view(np.uint8)[: like.nbytes].view(like.dtype).reshape(like.shape)
