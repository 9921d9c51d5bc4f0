"""Launches through the driver: what CuPy's do not have is that a kernel may begin before the one it follows has ended.

NVIDIA, "CUDA driver API": cuLaunchKernelEx; "CUDA C++ programming guide", programmatic dependent launch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

from tenonrt.contracts import ExecutionError

_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_SERIALIZATION = 6  # CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
_CLUSTER_DIMENSION = 4  # CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
_LARGE_CLUSTERS = 14  # CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
PORTABLE_CLUSTER = 8  # blocks that a cluster may have on any GPU that has clusters
_ACTIVE, _KERNEL = 1, 0  # CU_STREAM_CAPTURE_STATUS_ACTIVE, CU_GRAPH_NODE_TYPE_KERNEL


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: an identifier and 64 bytes of value."""

    _fields_ = [("id", ctypes.c_int), ("padding", ctypes.c_int), ("value", ctypes.c_uint * 16)]


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    ]


@cache
def driver() -> ctypes.CDLL:
    """The driver's library."""
    return ctypes.CDLL("libcuda.so.1")


def check(status: int, what: str) -> None:
    """`ExecutionError` where the driver refused."""
    if status:
        raise ExecutionError(f"the driver's {what} returned status {status}")


def allow_shared(function: int, nbytes: int) -> None:
    """Let a kernel have so much dynamic shared memory."""
    status = driver().cuFuncSetAttribute(ctypes.c_void_p(function), _DYNAMIC_SHARED, ctypes.c_int(nbytes))
    check(status, f"cuFuncSetAttribute of {nbytes} bytes")


def allow_cluster(function: int, grid: Sequence[int], block: Sequence[int], shared: int, blocks: int) -> None:
    """Let a kernel have clusters of more than `PORTABLE_CLUSTER` blocks; `ExecutionError` where none fits the GPU."""
    status = driver().cuFuncSetAttribute(ctypes.c_void_p(function), _LARGE_CLUSTERS, ctypes.c_int(1))
    check(status, f"cuFuncSetAttribute for clusters of {blocks} blocks")
    attribute = _Attribute(_CLUSTER_DIMENSION, 0, (ctypes.c_uint * 16)(blocks, 1, 1))
    config = _Config(_three(grid), _three(block), shared, None, ctypes.pointer(attribute), 1)
    count = ctypes.c_int()
    status = driver().cuOccupancyMaxActiveClusters(ctypes.byref(count), ctypes.c_void_p(function), ctypes.byref(config))
    check(status, f"cuOccupancyMaxActiveClusters of {blocks} blocks")
    if not count.value:
        raise ExecutionError(f"this GPU has no room for a cluster of {blocks} blocks of {tuple(block)} threads each")


def launch(
    function: int, grid: Sequence[int], block: Sequence[int], shared: int, stream: int, values: Sequence[Any],
    early: bool,
) -> None:  # fmt: skip
    """Enqueue a kernel; ``values`` are ctypes values. early: it may begin before the one it follows has ended."""
    pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(v) for v in values])
    attribute = _Attribute(_SERIALIZATION, 0, (ctypes.c_uint * 16)(1))
    attributes = ctypes.pointer(attribute)
    config = _Config(_three(grid), _three(block), shared, stream, attributes, int(early))
    status = driver().cuLaunchKernelEx(ctypes.byref(config), ctypes.c_void_p(function), pointers, None)
    check(status, f"cuLaunchKernelEx with grid {tuple(grid)}, block {tuple(block)} and {shared} bytes shared")


def _three(sizes: Sequence[int]) -> Any:
    return (ctypes.c_uint * 3)(*(*sizes, 1, 1)[:3])


def follows_one_kernel(stream: int) -> bool:
    """Whether what is captured next follows one kernel: only between two kernels can an edge be programmatic."""
    status, identifier = ctypes.c_int(), ctypes.c_uint64()
    graph, edges, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    before = ctypes.POINTER(ctypes.c_void_p)()
    failed = driver().cuStreamGetCaptureInfo_v3(
        ctypes.c_void_p(stream), ctypes.byref(status), ctypes.byref(identifier), ctypes.byref(graph),
        ctypes.byref(before), ctypes.byref(edges), ctypes.byref(count),
    )  # fmt: skip
    if failed or status.value != _ACTIVE or count.value != 1:
        return False
    kind = ctypes.c_int(-1)
    return not driver().cuGraphNodeGetType(ctypes.c_void_p(before[0]), ctypes.byref(kind)) and kind.value == _KERNEL
