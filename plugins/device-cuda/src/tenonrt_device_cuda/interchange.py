"""Arrays, streams and events of other libraries, taken without copies."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt.contracts import ExecutionError

from tenonrt_device_cuda.library import cupy

_DLPACK_CUDA = 2  # kDLCUDA


def adopt(array: Any) -> Any:
    """A CuPy array of the same memory where it is the GPU's, else a NumPy array."""
    cp = cupy()
    if isinstance(array, cp.ndarray):
        return array
    if hasattr(array, "__cuda_array_interface__"):
        return cp.asarray(array)
    if hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == _DLPACK_CUDA:
        return cp.from_dlpack(array)
    return np.asarray(array)


def wrap_stream(stream: Any) -> Any:
    """A CuPy stream of CuPy's, PyTorch's, any that has ``__cuda_stream__``, or the handle as a number."""
    cp = cupy()
    if isinstance(stream, cp.cuda.Stream | cp.cuda.ExternalStream):
        return stream
    handle = _handle(stream, "cuda_stream")
    if handle is None and hasattr(stream, "__cuda_stream__"):
        handle = stream.__cuda_stream__()[1]
    if handle is None:
        raise ExecutionError(f"a {type(stream).__name__} is no CUDA stream: give one of CuPy or PyTorch, or its handle")
    return cp.cuda.ExternalStream(handle)


def follow_caller(stream: Any) -> None:
    """Let a stream wait for what is enqueued on CuPy's current one: one that does not block is behind no other."""
    cp = cupy()
    stream.wait_event(cp.cuda.get_current_stream().record(cp.cuda.Event(disable_timing=True)))


def record(event: Any, stream: Any) -> None:
    """Record an event of CuPy's or PyTorch's, or a handle, on a stream."""
    handle = _handle(event, "cuda_event")
    if not handle:
        raise ExecutionError(
            f"a {type(event).__name__} is no CUDA event that exists: give one of CuPy, its handle, or one of PyTorch "
            f"that was recorded once, for it is made then"
        )
    cupy().cuda.runtime.eventRecord(handle, stream.ptr)


def _handle(value: Any, attribute: str) -> int | None:
    if isinstance(value, int):
        return value
    found = getattr(value, "ptr", getattr(value, attribute, None))
    return None if found is None else int(found)
