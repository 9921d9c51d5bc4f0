"""Timing candidates as a network would find them: weights far away, inputs just written, launched by a graph.

A graph has a few rounds of: sweep the second-level cache, read the inputs, note the time, run, note the time. What is
launched from the host one by one would be timed as fast as the host is; a loop over one kernel would find its weights
in the cache, which holds those of a small network and not those of a large one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from tenonrt.contracts import Launch

from tenonrt_device_cuda.events import Event
from tenonrt_device_cuda.library import cupy
from tenonrt_device_cuda.line import Line, Recorded, captured

# Rounds in a graph, and replays of it; the first replay warms.
_ROUNDS, _REPLAYS = 4, 4
# Once a candidate takes longer than this, one round of it is enough of a sample.
_LONG_SECONDS = 1e-3
# A candidate so many times slower than the best so far is not run again.
_HOPELESS = 2.5
_DEVICE_TO_DEVICE = 3  # cudaMemcpyKind


class Surroundings:
    """Buffers that sweep the cache and that inputs are read into."""

    def __init__(self) -> None:
        cp = cupy()
        self._bytes = 2 * int(cp.cuda.runtime.getDeviceProperties(cp.cuda.runtime.getDevice())["l2CacheSize"])
        self._swept = cp.zeros(self._bytes // 2, cp.uint8)
        self._other = cp.zeros(self._bytes // 2, cp.uint8)

    def restore(self, launch: Launch, stream: Any) -> None:
        """Enqueue: other data into the cache, then the inputs."""
        self._read(self._swept, stream)
        for array in launch.inputs:
            if array.nbytes and array.flags.c_contiguous:
                self._read(array, stream)

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
        spent = [after.seconds_since(before) for before, after in events]
        times += spent if number else []
        if min(spent) > _HOPELESS * best:
            return min(spent)
    return statistics.median(times)


def _record(launch: Launch, surroundings: Surroundings, rounds: int) -> tuple[Any, list[tuple[Event, Event]]]:
    events = [(Event(), Event()) for _ in range(rounds)]
    step = Recorded([launch])
    with captured() as (stream, graph):
        for before, after in events:
            surroundings.restore(launch, stream)
            step.enqueue(stream, (before, after))
    return graph[0], events
