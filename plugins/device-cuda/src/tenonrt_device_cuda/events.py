"""Events that a graph records while it runs."""

from __future__ import annotations

import ctypes
from typing import Any

from tenonrt.contracts import ExecutionError

from tenonrt_device_cuda.library import cupy, driver

_EXTERNAL = 1  # CU_EVENT_RECORD_EXTERNAL: a node of a captured graph that records, instead of an edge between nodes


class Event:
    """A point in a stream's work. Recorded during a capture it becomes a node, and tells the time of each replay."""

    def __init__(self) -> None:
        self._event = cupy().cuda.Event()

    def record(self, stream: Any) -> None:
        if not stream.is_capturing():
            self._event.record(stream)
            return
        status = driver().cuEventRecordWithFlags(
            ctypes.c_void_p(self._event.ptr), ctypes.c_void_p(stream.ptr), ctypes.c_uint(_EXTERNAL)
        )
        if status:
            raise ExecutionError(f"the driver does not record an event in a graph (status {status})")

    def seconds_since(self, earlier: Event) -> float:
        """Time between two recorded events that have passed."""
        return float(cupy().cuda.get_elapsed_time(earlier._event, self._event)) * 1e-3
