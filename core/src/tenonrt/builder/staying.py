"""Whether a network is faster without ever leaving the device's program: both programs run, and the faster one stays.

What a step in a library does to the steps after it cannot be seen from the step: OpenBLAS lets its idle threads spin
for 30 to 130 ms, in which native steps have a core less than threads. A ResNet-50 of 37 ms took 100 with seven
convolutions in NumPy, each of which had been the faster one when it was timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tenonrt.builder.contests import least_seconds, settled_runs
from tenonrt.builder.cover import Column, Cover
from tenonrt.builder.finalists import Lower, is_repeatable, leaves, network_digest, trial_runner
from tenonrt.builder.selection import Selector
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import BuildError, ExecutionError

_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 3, 20, 3.0
# Steps in Python have to pay clearly: beside other work on the machine they lose more than native ones do.
_WORTH_LEAVING = 0.95


def faster_cover(selector: Selector, columns: Sequence[Column], cover: Cover, tuner: Tuner, lower: Lower) -> Cover:
    """The cover, or the least one of native kernels wherever there are some, whichever runs faster as a whole."""
    foreign = {column.id for column in columns if leaves(selector, column, tuner)}
    if foreign.isdisjoint(column.id for column in cover.columns) or not is_repeatable(selector.graph):
        return cover
    at_home = {layer for column in columns if column.id not in foreign for layer in column.layers}
    kept = [column for column in columns if column.id not in foreign or not at_home.issuperset(column.layers)]
    try:
        staying = selector.solve(kept)
    except BuildError:  # what is native computes every layer, but not in regions that fit together
        return cover
    if staying.columns == cover.columns:
        return cover
    try:
        seconds = _times([cover, staying], selector, tuner, lower)
    except ExecutionError as error:
        tuner.notes.append(f"a program without steps in Python was not timed: {error}")
        return cover
    tuner.notes.append(f"as a whole: {seconds[0] * 1e3:.3g} ms with steps in Python, {seconds[1] * 1e3:.3g} ms without")
    return cover if seconds[0] < seconds[1] * _WORTH_LEAVING else staying


def _times(covers: Sequence[Cover], selector: Selector, tuner: Tuner, lower: Lower) -> list[float]:
    """The least seconds of each program."""
    stop = 0.0

    def enough(rounds: int, least: Sequence[float]) -> bool:
        nonlocal stop
        stop = time.monotonic() + _SECONDS if rounds == 0 else stop  # making the programs does not count
        return rounds == _MOST_ROUNDS or (rounds > _LEAST_ROUNDS and time.monotonic() > stop)

    names = [f"whole network {network_digest(selector, cover)}" for cover in covers]
    return least_seconds(
        names, lambda: [trial_runner(*lower(cover), tuner) for cover in covers], selector.graph, tuner, enough,
        settled_runs,
    )  # fmt: skip
