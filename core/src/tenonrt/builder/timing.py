"""Timing candidates as a network would find them: caches full of other things, inputs just written.

An isolated hot loop misranks: it keeps weights in the nearest cache that in the network come from memory. (3x3 512 @7
by Winograd took 503 µs so, 919 in the network, against 1084 of a direct kernel that took 1061 so.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from tenonrt.builder.watching import Watch
from tenonrt.contracts import Device, Launch, Runnable
from tenonrt.graph.graph import Graph

# What a core keeps to itself (L1 and L2) is 0.5 to 2 MiB on the processors of these years.
_NEAR_BYTES = 1 << 21
# Enough to empty the last cache of a desktop processor; a sweep of it takes 2 ms.
_FAR_BYTES = 48 << 20
# Smaller weights take little of a kernel's time wherever they come from: 10 µs a MiB at 100 GB/s, 40 from memory.
_LARGE_WEIGHTS = 1 << 20

# After each round only candidates within this factor of the best go on, the last factor for all later rounds.
_CLOSE = (2.5, 1.5, 1.25)
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 11
# Runs that a candidate has before it can be out, unless they take this long.
_IMPRESSIONS, _SLOW_SECONDS = 4, 0.02
# A disturbed run is taken again so many times at least, and for as long as other work may keep a core before it is
# another thread's turn; but all of them in a race take no longer than so many times what all others may.
_ATTEMPTS, _SLICES_SECONDS, _PATIENCE = 8, 16e-3, 3
# Rounds end when repeated times of the leaders agree to this, or with the budget.
_NOISE = 0.02
_LEAST_SECONDS, _MOST_SECONDS = 0.02, 0.5
# Idle threads of a library spin on and take a core from whatever runs next: OpenBLAS's for 2**28 ticks, 130 ms.
_SPINNING_SECONDS = 0.2


def let_threads_sleep() -> None:
    """Wait until idle threads of libraries that ran before no longer spin."""
    time.sleep(_SPINNING_SECONDS)


def constant_bytes(graph: Graph) -> int:
    """The bytes of a network's weights, its subgraphs' included."""
    constants = {t: t.constant.nbytes for layer in graph.layers for t in layer.inputs if t and t.constant is not None}
    return sum(constants.values()) + sum(constant_bytes(g) for layer in graph.layers for g in layer.graphs)


class Surroundings:
    """What the other steps of a network leave behind: other data in the caches, this step's inputs near."""

    def __init__(self, device: Device, threads: int, touched: int) -> None:
        """``touched``: bytes that one run of the network reads, which is how far away its weights are."""
        self._near = [device.allocate(_NEAR_BYTES) for _ in range(threads)]
        self._far = device.allocate(max(_NEAR_BYTES, min(touched, _FAR_BYTES)))
        self._others = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self._bind = partial(device.bind, threads=threads)
        self._last: Launch | None = None  # the best of the race before, to run before one that has no rival

    def primed(self, launches: Sequence[Launch]) -> list[Runnable]:
        """Each launch after another: the first of them, which is the best, and that after the second.

        In a network the threads of the pool come from the step before and are awake; after a sweep they would not be,
        and to wake them takes as long as a small kernel.
        """
        before = launches[1] if len(launches) > 1 else self._last
        self._last = launches[0]
        primers = [before, *(launches[0] for _ in launches[1:])]
        return [self._bind([p, own] if p else [own]) for p, own in zip(primers, launches, strict=True)]

    def restore(self, launch: Launch, weight_bytes: int) -> None:
        """Before a timed run: sweep the caches of every thread, then write the inputs as their producer would."""
        first = self._far if weight_bytes > _LARGE_WEIGHTS else self._near[0]
        pending = [self._others.submit(_sweep, buffer) for buffer in self._near[1:]] if self._others else []
        _sweep(first)
        wait(pending)
        for array in launch.inputs:
            array[...] = array


def _sweep(buffer: Any) -> None:
    buffer.max()  # reads every byte, with the interpreter's lock released


@dataclass(frozen=True)
class Entrant:
    """One candidate, ready to run."""

    launch: Launch
    runnable: Runnable


class Time(NamedTuple):
    """Seconds of a run, or typical ones. sound: nothing disturbed it; else it may be too long."""

    seconds: float
    sound: bool = True


def race(
    entrants: Sequence[Entrant], surroundings: Surroundings, weight_bytes: int, watch: Watch | None = None
) -> list[Time]:
    """The time of each, run in turn; those that are clearly slower stop early, so their times are of fewer runs.

    watch: tells which runs were disturbed, to be taken again.
    """
    runs = _Runs(watch, partial(surroundings.restore, weight_bytes=weight_bytes))
    first = [runs.impression(entrant.runnable) for entrant in entrants]
    out = set(range(len(entrants))).difference(_close(range(len(entrants)), first, _CLOSE[0]))
    for index in out:  # something else may have had the processor all the while
        first[index] = min(first[index], runs.impression(entrants[index].runnable))
    elapsed = runs.elapsed()
    budget = min(_MOST_SECONDS, max(_LEAST_SECONDS, _LEAST_ROUNDS * elapsed))
    alive = sorted(_close(range(len(entrants)), first, _CLOSE[0]), key=lambda index: first[index])
    if elapsed > budget:
        return first
    primed = dict(zip(alive, surroundings.primed([entrants[index].launch for index in alive]), strict=True))
    times: dict[int, list[Time]] = {index: [] for index in alive}
    runs.patience = runs.lost + _PATIENCE * budget
    for number in range(1, _MOST_ROUNDS):
        for index in alive:
            times[index].append(runs.as_in_place(entrants[index].launch, primed[index]))
        if number >= _LEAST_ROUNDS and all(_spread(times[index]) < _NOISE for index in alive):
            break
        if runs.elapsed() > budget:
            break
        known = {index: of_sound_ones(times[index]) for index in alive}
        alive = _close(alive, known, _CLOSE[min(number, len(_CLOSE) - 1)])
    return [of_sound_ones(times[index]) if index in times else found for index, found in enumerate(first)]


class _Runs:
    """Timed runs of one race. Disturbed ones are taken again, and what they took is not the race's time."""

    def __init__(self, watch: Watch | None, restore: Callable[[Launch], None]) -> None:
        self.lost, self.patience = 0.0, _PATIENCE * _LEAST_SECONDS  # seconds of disturbed runs: how many, and at most
        self._watch, self._restore, self._start = watch, restore, time.monotonic()

    def elapsed(self) -> float:
        """Seconds of the race."""
        return time.monotonic() - self._start - self.lost

    def impression(self, runnable: Runnable) -> Time:
        """The least of a few runs, or the only one of a slow candidate.

        Threads of the pool are asleep before the first run, and what else a core does can take longer than a kernel.
        """
        start, least = time.monotonic(), Time(float("inf"))
        for _ in range(_IMPRESSIONS):
            least = min(least, self._run(lambda: None, runnable))
            if time.monotonic() - start > _SLOW_SECONDS:
                break
        return least

    def as_in_place(self, launch: Launch, primed: Runnable) -> Time:
        """The last step of a program, its surroundings as in a network."""
        return self._run(partial(self._restore, launch), primed)

    def _run(self, restore: Callable[[], None], runnable: Runnable) -> Time:
        """A run that nothing disturbed, or the shortest of some that were."""
        begun, least = time.monotonic(), Time(float("inf"), sound=False)
        for attempt in count(1):
            started = time.monotonic()
            restore()
            found = _timed(runnable, self._watch)
            if found.sound:
                return found
            least = min(least, found)
            ended = time.monotonic()
            if self.lost > self.patience or (attempt >= _ATTEMPTS and ended - begun > _SLICES_SECONDS):
                break
            self.lost += ended - started
        return least


def _timed(runnable: Runnable, watch: Watch | None) -> Time:
    """The last step's."""
    with np.errstate(all="ignore"):  # as when an engine runs
        if watch is None:
            return Time(runnable.time(None)[-1])
        watch.begin()
        seconds = runnable.time(None)[-1]
        return Time(seconds, sound=not watch.disturbed(seconds))


def _close(alive: Iterable[int], times: Mapping[int, Time] | Sequence[Time], factor: float) -> list[int]:
    """Those within a factor of the least time; of a disturbed one nobody knows how much shorter it would have been."""
    alive = list(alive)
    least = min(times[index].seconds for index in alive)
    return [i for i in alive if times[i].seconds <= least * (factor if times[i].sound else _CLOSE[0])]


def of_sound_ones(times: Sequence[Time]) -> Time:
    """What is typical of the sound runs; where there is none, the shortest."""
    sound = [seconds for seconds, is_sound in times if is_sound]
    return Time(typical(sound)) if sound else min(times)


def typical(times: Sequence[float]) -> float:
    """The lower quartile: half of what disturbs a run is not the candidate's doing, and the least is too lucky."""
    return sorted(times)[len(times) // 4]


def _spread(times: Sequence[Time]) -> float:
    ordered = sorted(seconds for seconds, is_sound in times if is_sound)
    if len(ordered) < _LEAST_ROUNDS:
        return float("inf")
    return ordered[len(ordered) // 2] / max(ordered[len(ordered) // 4], 1e-9) - 1
