"""Memory of the GPU: allocation from CuPy's pool or a caller's, and copies through pinned memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tenonrt.contracts import Array, ExecutionError

from tenonrt_device_cuda.library import cupy

# Smaller copies gain nothing from a detour through pinned memory.
_STAGED_BYTES = 1 << 18


def use_allocator(allocate: Callable[[int, int], int], free: Callable[[int, int], None]) -> None:
    """Take memory from a caller's functions from now on: (bytes, device number) -> address, and (address, device)."""
    cp = cupy()
    cp.cuda.set_allocator(cp.cuda.PythonFunctionAllocator(allocate, free).malloc)


def use_pool() -> None:
    """Take memory from CuPy's pool again."""
    cp = cupy()
    cp.cuda.set_allocator(cp.get_default_memory_pool().malloc)


def allocate(nbytes: int) -> Any:
    """Zeroed bytes; `ExecutionError` where there are not so many, after what the pool kept for later was given back."""
    cp = cupy()
    try:
        buffer = _zeros(nbytes)
    except cp.cuda.memory.OutOfMemoryError:
        cp.get_default_memory_pool().free_all_blocks()
        try:
            buffer = _zeros(nbytes)
        except cp.cuda.memory.OutOfMemoryError as error:
            free, total = cp.cuda.runtime.memGetInfo()
            raise ExecutionError(
                f"the GPU has no {nbytes} bytes left ({free} of {total} are free): use a smaller batch"
            ) from error
    return buffer


def _zeros(nbytes: int) -> Any:
    cp = cupy()
    buffer = cp.zeros(nbytes, cp.uint8)
    cp.cuda.get_current_stream().synchronize()  # streams of contexts do not wait for this one
    return buffer


def typed(buffer: Any, like: Array) -> Any:
    """The first bytes of a buffer, seen with the element type and shape of a host array."""
    if like.dtype.hasobject:
        raise ExecutionError("strings have no bytes that a device could hold; keep the tensor on the host")
    if buffer.dtype == like.dtype and buffer.shape == like.shape:
        return buffer  # as it is: a slice of a larger buffer has no bytes in a row
    if buffer.nbytes < like.nbytes:
        raise ExecutionError(f"a buffer of {buffer.nbytes} bytes cannot hold {like.dtype}{list(like.shape)}")
    return buffer.reshape(-1).view(np.uint8)[: like.nbytes].view(like.dtype).reshape(like.shape)


def upload(host: Array, buffer: Any) -> None:
    """Copy from the host, and wait."""
    cp, target = cupy(), typed(buffer, host)
    source = np.ascontiguousarray(host).reshape(host.shape)
    stream = cp.cuda.get_current_stream()
    staged = _pinned(source.nbytes) if source.nbytes >= _STAGED_BYTES else None
    if staged is not None:
        np.copyto(staged[: source.nbytes].view(source.dtype).reshape(source.shape), source)
        source = staged[: source.nbytes].view(source.dtype).reshape(source.shape)
    if target.flags.c_contiguous:
        target.set(source, stream=stream)
    else:
        dense = cp.empty(source.shape, source.dtype)
        dense.set(source, stream=stream)
        target[...] = dense
    stream.synchronize()


def download(buffer: Any, host: Array) -> None:
    """Copy to the host, and wait."""
    cp, source = cupy(), typed(buffer, host)
    dense = source if source.flags.c_contiguous else source.copy()
    stream = cp.cuda.get_current_stream()
    if not host.size:
        return
    staged = _pinned(host.nbytes) if host.nbytes >= _STAGED_BYTES else np.empty(host.nbytes, np.uint8)
    view = staged[: host.nbytes].view(host.dtype).reshape(host.shape)
    dense.get(out=view, stream=stream)
    stream.synchronize()
    np.copyto(host, view)


def _pinned(nbytes: int) -> Array:
    """Page-locked bytes from CuPy's pool; they go back with the array."""
    memory = cupy().cuda.alloc_pinned_memory(nbytes)
    return np.frombuffer(memory, np.uint8, nbytes)
