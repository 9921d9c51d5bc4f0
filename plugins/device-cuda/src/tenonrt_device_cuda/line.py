"""A straight line of steps: those on the GPU are recorded into CUDA graphs, steps of the host stand between them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, pairwise
from time import perf_counter
from typing import Any

import numpy as np
from tenonrt.contracts import Executable, ExecutionError, Launch

from tenonrt_device_cuda.events import Event
from tenonrt_device_cuda.interchange import follow_caller
from tenonrt_device_cuda.lanes import Place, side_by_side
from tenonrt_device_cuda.library import cupy
from tenonrt_device_cuda.memory import allocate, download, upload

LANES = "TENONRT_CUDA_LANES"
_LANES, _MOST_LANES = 4, 16


class Line:
    """A `Runnable`. Its buffers are its own, so it must not be run by two threads at once."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        for launch in launches:
            if not isinstance(launch.executable, Executable):
                raise ExecutionError(f"step {launch.name!r}: a {type(launch.executable).__name__} has no `launch`")
        self._own: Any | None = None
        self._segments: list[Recorded | HostStep] = []
        for on_device, group in groupby(launches, lambda launch: launch.on_device):
            steps = list(group)
            self._segments += [Recorded(steps)] if on_device else [HostStep(step) for step in steps]

    def run(self, stream: Any | None = None) -> None:
        """On a stream without waiting, but for steps of the host; without one, on its own stream, after CuPy's current
        one, to the end.
        """
        where = stream if stream is not None else self._own_stream()
        for segment in self._segments:
            segment.run(where)
        if stream is None:
            where.synchronize()

    def time(self, stream: Any | None = None) -> list[float]:
        where = stream if stream is not None else self._own_stream()
        return [seconds for segment in self._segments for seconds in segment.time(where)]

    def _own_stream(self) -> Any:
        if self._own is None:
            self._own = cupy().cuda.Stream(non_blocking=True)
        follow_caller(self._own)
        return self._own


class Recorded:
    """Steps in a row on the GPU. They run once one by one, which loads what they need, and from then on as a graph."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self._launches = launches
        self._graph: Any | None = None
        self._timed: tuple[Any, list[Event]] | None = None
        self._held: list[Any] = []

    def run(self, stream: Any) -> None:
        if self._graph is not None:
            self._graph.launch(stream)
            return
        self.enqueue(stream)
        self._graph = self._record()

    def time(self, stream: Any) -> list[float]:
        if self._graph is None:
            self.run(stream)
        if self._timed is None:
            self._timed = self._record_timed()
        graph, events = self._timed
        graph.launch(stream)
        stream.synchronize()
        return [after.seconds_since(before) for before, after in pairwise(events)]

    def enqueue(self, stream: Any, events: Sequence[Event] = ()) -> None:
        """Launch the steps one by one, an event before the first and after each where they are given."""
        if events:
            events[0].record(stream)
        with stream:  # for kernels that use CuPy's current stream
            for number, step in enumerate(self._launches):
                _launch(step, step.inputs, step.outputs, step.workspace, stream)
                if events:
                    events[number + 1].record(stream)

    def _record_timed(self) -> tuple[Any, list[Event]]:
        """The steps in a row as a graph, with an event before the first and after each."""
        events = [Event() for _ in range(len(self._launches) + 1)]
        with captured() as (stream, graph):
            self.enqueue(stream, events)
        return graph[0], events

    def _record(self) -> Any:
        """The steps as a graph whose branches follow what the steps need of each other."""
        placed = side_by_side(self._launches, lanes_in_force())
        workspaces = self._workspaces(placed)
        with captured() as (stream, graph):
            _enqueue_lanes(self._launches, placed, stream, workspaces)
        return graph[0]

    def _workspaces(self, placed: Sequence[Place]) -> list[Any]:
        """One for each lane but the first, which has the one that steps were given."""
        largest = max((s.workspace.nbytes for s in self._launches if s.workspace is not None), default=0)
        count = max(place.lane for place in placed)
        self._held = [allocate(largest) for _ in range(count)] if largest else [None] * count
        return self._held


def lanes_in_force() -> int:
    """How many steps may run side by side: TENONRT_CUDA_LANES, else four."""
    text = os.environ.get(LANES, "").strip()
    if not text:
        return _LANES
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_LANES:
        raise ExecutionError(f"{LANES} is {text!r}; it must be a number from 1 to {_MOST_LANES}")
    return int(text)


@contextmanager
def captured() -> Iterator[tuple[Any, list[Any]]]:
    """A stream that records, and a list that the graph is put into: a caller's stream may have work of others on it."""
    stream, graph = cupy().cuda.Stream(non_blocking=True), list[Any]()
    stream.begin_capture()
    try:
        yield stream, graph
    except BaseException:
        abandon(stream)
        raise
    graph.append(stream.end_capture())


def _enqueue_lanes(launches: Sequence[Launch], placed: Sequence[Place], first: Any, workspaces: Sequence[Any]) -> None:
    """Each step on the stream of its lane; events order what lanes need of each other."""
    cp = cupy()
    streams = [first, *(cp.cuda.Stream(non_blocking=True) for _ in workspaces)]
    awaited = {i for place in placed for i in place.waits}
    events: dict[int, Any] = {}
    begun, begin = {0}, cp.cuda.Event(disable_timing=True)
    begin.record(first)
    for number, (step, place) in enumerate(zip(launches, placed, strict=True)):
        stream = streams[place.lane]
        if place.lane not in begun:
            stream.wait_event(begin)
            begun.add(place.lane)
        for i in place.waits:
            stream.wait_event(events[i])
        workspace = step.workspace if place.lane == 0 or step.workspace is None else workspaces[place.lane - 1]
        with stream:
            _launch(step, step.inputs, step.outputs, workspace, stream)
        if number in awaited:
            events[number] = cp.cuda.Event(disable_timing=True)
            events[number].record(stream)
    for lane in begun - {0}:
        end = cp.cuda.Event(disable_timing=True)
        end.record(streams[lane])
        first.wait_event(end)


def abandon(stream: Any) -> None:
    """End a capture that failed: a stream that is left capturing spoils the context."""
    try:
        stream.end_capture()
    except cupy().cuda.runtime.CUDARuntimeError:
        pass  # the error that ended it is on its way already


class HostStep:
    """A step on NumPy arrays: inputs come to the host, outputs go back."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._workspace = None if launch.workspace is None else np.zeros(launch.workspace.nbytes, np.uint8)

    def run(self, stream: Any) -> None:
        stream.synchronize()
        step = self._launch
        inputs, outputs = ([np.empty(a.shape, a.dtype) for a in arrays] for arrays in (step.inputs, step.outputs))
        for source, target in zip(step.inputs, inputs, strict=True):
            download(source, target)
        _launch(step, inputs, outputs, self._workspace, None)
        for source, target in zip(outputs, step.outputs, strict=True):
            upload(source, target)

    def time(self, stream: Any) -> list[float]:
        start = perf_counter()
        self.run(stream)
        return [perf_counter() - start]


def _launch(step: Launch, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any, stream: Any) -> None:
    try:
        step.executable.launch(inputs, outputs, workspace, stream)  # type: ignore[union-attr]
    except Exception as error:
        error.add_note(f"in step {step.name!r}")
        raise ExecutionError(f"step {step.name!r} failed: {type(error).__name__}: {error}") from error
