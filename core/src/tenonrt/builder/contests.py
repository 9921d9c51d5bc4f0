"""Whole programs against each other: run in turns, the least time of each, kept in the timing cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tenonrt.builder.cache import CacheEntry
from tenonrt.builder.finalists import drawn_inputs
from tenonrt.builder.tuner import Tuner
from tenonrt.graph.graph import Graph
from tenonrt.runtime.runner import ProgramRunner

Enough = Callable[[int, Sequence[float]], bool]  # rounds that are finished, and the least seconds so far


def least_seconds(
    names: Sequence[str], runners: Callable[[], Sequence[ProgramRunner]], graph: Graph, tuner: Tuner, enough: Enough
) -> list[float]:
    """The least seconds of each program, from the cache or run in turns: other work of the machine only adds.

    names: what the cache keeps them by. runners: makes them, when they have to run.
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
            runner.run(inputs)  # this one finds the threads of the other awake
            start = time.perf_counter()
            runner.run(inputs)
            least[index] = min(least[index], time.perf_counter() - start)
        rounds += 1
    for key, seconds in zip(keys, least, strict=True):
        tuner.cache.put(key, CacheEntry(seconds=seconds))
    return least
