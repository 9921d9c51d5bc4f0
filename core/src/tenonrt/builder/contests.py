"""Whole programs against each other: run in turns, the least time of each, kept in the timing cache."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from tenonrt.builder.cache import CacheEntry
from tenonrt.builder.finalists import drawn_inputs
from tenonrt.builder.timing import let_threads_sleep
from tenonrt.builder.tuner import Tuner
from tenonrt.builder.watching import Watch
from tenonrt.graph.graph import Graph
from tenonrt.runtime.runner import ProgramRunner
from tenonrt.types import Array

_TURN_SECONDS = 0.06
# So often a disturbed run is taken again.
_ATTEMPTS = 8

Turn = Callable[[ProgramRunner, Sequence[Array]], float]
Enough = Callable[[int, Sequence[float]], bool]  # rounds that are finished, and the least seconds so far


def least_seconds(
    names: Sequence[str],
    runners: Callable[[], Sequence[ProgramRunner]],
    graph: Graph,
    tuner: Tuner,
    enough: Enough,
    turn: Turn,
) -> list[float]:
    """The least seconds of each program, from the cache or run in turns: other work of the machine only adds.

    names: what the cache keeps them by. runners: makes them, when they have to run. turn: one program's seconds.
    """
    keys = [tuner.cache.key(name, "", "", "") for name in names]
    cached = [tuner.cache.get(key) for key in keys]
    known = [entry.seconds for entry in cached if entry is not None and entry.seconds is not None]
    if len(known) == len(keys):
        return known
    tuner.locked("times of whole programs")
    rivals, inputs, least, rounds = runners(), drawn_inputs(graph), [float("inf")] * len(keys), 0
    while not enough(rounds, least):
        for index, runner in enumerate(rivals):
            least[index] = min(least[index], turn(runner, inputs))
        rounds += 1
    for key, seconds in zip(keys, least, strict=True):
        tuner.cache.put(key, CacheEntry(seconds=seconds))
    return least


def one_run(runner: ProgramRunner, inputs: Sequence[Array]) -> float:
    """The seconds of a run, after one that wakes the threads; the least of a few where other work disturbs them."""
    watch, least = Watch(runner.resources.threads), float("inf")
    for _ in range(_ATTEMPTS):
        runner.run(inputs)
        watch.begin()
        start = time.perf_counter()
        runner.run(inputs)
        seconds = time.perf_counter() - start
        if not watch.disturbed(seconds):
            return seconds
        least = min(least, seconds)
    return least


def settled_runs(runner: ProgramRunner, inputs: Sequence[Array]) -> float:
    """The median seconds of runs one after another, once the idle threads of what ran before are asleep.

    They run for so long that the idle threads of their own libraries are part of what they cost. Disturbed runs are not
    told from others, since those threads look like other work.
    """
    let_threads_sleep()
    runner.run(inputs)
    seconds, stop = list[float](), time.perf_counter() + _TURN_SECONDS
    while not seconds or time.perf_counter() < stop:
        start = time.perf_counter()
        runner.run(inputs)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
