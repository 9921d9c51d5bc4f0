"""Execution plans through cuDNN's own interface in C: all that a run takes, so that it takes no front end.

NVIDIA, "cuDNN", backend API: a plan's descriptor is made from its text, and run with a pack of pointers. Numbers are
those of cudnn_graph.h.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from threading import Lock
from typing import Any

from tenonrt.contracts import ExecutionError, UnsupportedError, load_library

LIBRARY = "TENONRT_CUDNN"  # an environment variable: the path of the library to use
_PATTERNS = ("nvidia/cudnn/lib/libcudnn.so.9",)
_PLACES = ("libcudnn.so.9", "libcudnn.so")

# cudnnBackendDescriptorType_t
_EXECUTION_PLAN, _VARIANT_PACK = 5, 16
# cudnnBackendAttributeName_t
_PLAN_HANDLE, _PLAN_TEXT = 400, 405
_PACK_NUMBERS, _PACK_POINTERS, _PACK_WORKSPACE = 1000, 1001, 1003
# cudnnBackendAttributeType_t
_HANDLE, _INT64, _POINTER, _CHAR = 0, 3, 6, 24

_MESSAGE_BYTES = 1024
# Plans that were loaded last: a first run binds its plan up to four times, and cuDNN may compile it each time.
_KEPT = 8
# A handle carries the stream that it works on, so that setting it and enqueueing are one.
_lock = Lock()


@cache
def library() -> ctypes.CDLL:
    """cuDNN with its signatures; `UnsupportedError` says how to get it."""
    found = load_library(LIBRARY, _PATTERNS, _PLACES)
    if found is None:
        raise UnsupportedError(
            f"cuDNN is not installed: pip install nvidia-cudnn-cu13, or set {LIBRARY} to the path of libcudnn.so"
        )
    pointer, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    found.cudnnGetVersion.restype = ctypes.c_size_t
    found.cudnnGetLastErrorString.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    found.cudnnGetLastErrorString.restype = None
    found.cudnnSetStream.argtypes = [pointer, pointer]
    found.cudnnBackendCreateDescriptor.argtypes = [number, pointer]
    found.cudnnBackendSetAttribute.argtypes = [pointer, number, number, count, pointer]
    found.cudnnBackendExecute.argtypes = [pointer] * 3
    for name in ("cudnnBackendFinalize", "cudnnBackendDestroyDescriptor", "cudnnCreate"):
        getattr(found, name).argtypes = [pointer]
    return found


@cache
def _handle() -> ctypes.c_void_p:
    """The handle of this process for the current GPU."""
    made = ctypes.c_void_p()
    _check(library().cudnnCreate(ctypes.byref(made)), "cuDNN cannot be used here")
    return made


def _check(status: int, what: str) -> None:
    if status:
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        library().cudnnGetLastErrorString(message, _MESSAGE_BYTES)
        raise ExecutionError(f"{what}: status {status}, {message.value.decode(errors='replace')}")


class Descriptor:
    """A descriptor of the backend, final once it is made. attributes: number, type, count and values of each."""

    def __init__(self, kind: int, attributes: Sequence[tuple[int, int, int, Any]], what: str) -> None:
        self.pointer = ctypes.c_void_p()
        _check(library().cudnnBackendCreateDescriptor(kind, ctypes.byref(self.pointer)), what)
        for name, type, count, values in attributes:
            _check(library().cudnnBackendSetAttribute(self.pointer, name, type, count, values), what)
        _check(library().cudnnBackendFinalize(self.pointer), what)

    def __del__(self) -> None:
        if self.pointer.value:
            library().cudnnBackendDestroyDescriptor(self.pointer)


@lru_cache(_KEPT)
def _loaded(plan: bytes) -> Descriptor:
    """The descriptor of a plan; `ExecutionError` where this cuDNN does not take it."""
    made_by = json.loads(plan).get("cudnnVersion")
    what = f"cuDNN {library().cudnnGetVersion()} refuses a plan of cuDNN {made_by}; where they differ, build it again"
    handle = _handle()
    attributes = [(_PLAN_HANDLE, _HANDLE, 1, ctypes.byref(handle)), (_PLAN_TEXT, _CHAR, len(plan), plan)]
    return Descriptor(_EXECUTION_PLAN, attributes, what)


class Planned:
    """An `Executable` of an execution plan. pointers: where each operand of the graph comes from.

    ("input", i), ("output", i) or ("packed", i), by the operand's number.
    """

    def __init__(self, plan: bytes, pointers: Mapping[int, tuple[str, int]], packed: Sequence[Any]) -> None:
        self._plan = _loaded(plan)
        self._numbers = (ctypes.c_int64 * len(pointers))(*pointers)
        self._sources = list(pointers.values())
        self._packed = packed

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        import cupy

        arrays = {"input": inputs, "output": outputs, "packed": self._packed}
        given = [arrays[where][i].data.ptr for where, i in self._sources]
        count, address = len(given), ctypes.c_void_p(0 if workspace is None else workspace.data.ptr)
        what = "a plan of cuDNN cannot be run"
        pack = Descriptor(_VARIANT_PACK, [
            (_PACK_NUMBERS, _INT64, count, self._numbers),
            (_PACK_POINTERS, _POINTER, count, (ctypes.c_void_p * count)(*given)),
            (_PACK_WORKSPACE, _POINTER, 1, ctypes.byref(address)),
        ], what)  # fmt: skip
        where = stream.ptr if stream is not None else cupy.cuda.get_current_stream().ptr
        with _lock:
            _check(library().cudnnSetStream(_handle(), where), what)
            _check(library().cudnnBackendExecute(_handle(), self._plan.pointer, pack.pointer), what)
