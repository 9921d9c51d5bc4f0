"""Timing candidates as a network would find them: weights far away, inputs just written, launched by a graph.

A graph has a few rounds of: sweep the second-level cache, read the inputs, note the time, pass it, run, note the time.
What is launched from the host one by one would be timed as fast as the host is; a loop over one kernel would find its
weights in the cache, which holds those of a small network and not those of a large one.

Before a candidate stands a kernel that only passes time, as another layer does in a network: candidates that begin
before what they follow has ended do so here too. What it takes alone is subtracted.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Launch

from tenonrt_device_cuda.events import Event
from tenonrt_device_cuda.library import cupy
from tenonrt_device_cuda.line import Line, Recorded, captured

# Rounds in a graph, and replays of it; the first replay warms.
_ROUNDS, _REPLAYS = 4, 4
# Once a candidate takes longer than this, one round of it is enough of a sample.
_LONG_SECONDS = 1e-3
# What a kernel adds to a graph cannot be less.
_LEAST_SECONDS = 2e-7
# A candidate so many times slower than the best so far is not run again.
_HOPELESS = 2.5
_DEVICE_TO_DEVICE = 3  # cudaMemcpyKind
# About 3 µs on half of a large GPU's processors, which others may use beside it.
_PACE_CYCLES, _PACE_GRID = 5500, (66,)
_PACE = r"""
extern "C" __global__ void pace(long long cycles) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
    const long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""


class Surroundings:
    """Buffers that sweep the cache and that inputs are read into."""

    def __init__(self) -> None:
        cp = cupy()
        self._bytes = 2 * int(cp.cuda.runtime.getDeviceProperties(cp.cuda.runtime.getDevice())["l2CacheSize"])
        self._swept = cp.zeros(self._bytes // 2, cp.uint8)
        self._other = cp.zeros(self._bytes // 2, cp.uint8)
        self._pace = cp.RawKernel(_PACE, "pace")
        self._pace(_PACE_GRID, (128,), (np.int64(0),))  # loads it, which nothing may do while a graph is recorded

    def restore(self, launch: Launch, stream: Any) -> None:
        """Enqueue: other data into the cache, then the inputs."""
        self._read(self._swept, stream)
        for array in launch.inputs:
            if array.nbytes and array.flags.c_contiguous:
                self._read(array, stream)

    def pace(self, stream: Any) -> None:
        """Enqueue: a kernel that takes its time and lets the next one begin."""
        with stream:
            self._pace(_PACE_GRID, (128,), (np.int64(_PACE_CYCLES),))

    def _read(self, array: Any, stream: Any) -> None:
        count = min(array.nbytes, self._other.nbytes)
        cupy().cuda.runtime.memcpyAsync(self._other.data.ptr, array.data.ptr, count, _DEVICE_TO_DEVICE, stream.ptr)


def race(entrants: Sequence[Callable[[], Launch]], surroundings: Surroundings) -> list[float | Exception]:
    """Median seconds of each, or what it raised."""
    found: list[float | Exception] = []
    best = float("inf")
    for entrant in entrants:
        try:
            seconds = _time(entrant(), surroundings, best)
        except Exception as error:  # noqa: BLE001 - whatever a candidate raises, the others are timed
            found.append(error)
        else:
            best = min(best, seconds)
            found.append(seconds)
    return found


def _time(launch: Launch, surroundings: Surroundings, best: float) -> float:
    line = Line([launch])
    line.run(None)
    first = line.time(None)[0]
    if not launch.on_device:
        return first
    rounds = 1 if first > _LONG_SECONDS else _ROUNDS
    graph, events = _record(launch, surroundings, rounds)
    stream = cupy().cuda.Stream(non_blocking=True)
    times: list[float] = []
    for number in range(_REPLAYS):
        graph.launch(stream)
        stream.synchronize()
        alone, *spent = (after.seconds_since(before) for before, after in events)
        added = [max(seconds - alone, _LEAST_SECONDS) for seconds in spent]
        times += added if number else []
        if min(added) > _HOPELESS * best:
            return min(added)
    return statistics.median(times)


def _record(launch: Launch, surroundings: Surroundings, rounds: int) -> tuple[Any, list[tuple[Event, Event]]]:
    """A graph that notes times around the passing of time alone, then around it and the candidate, round by round."""
    events = [(Event(), Event()) for _ in range(rounds + 1)]
    step = Recorded([launch])
    with captured() as (stream, graph):
        for number, (before, after) in enumerate(events):
            surroundings.restore(launch, stream)
            before.record(stream)
            surroundings.pace(stream)
            if number:
                step.enqueue(stream)
            after.record(stream)
    return graph[0], events
