"""Races that are run again at other moments, until two of them agree and every leader had a run that nothing disturbed.

A cover compares regions that were timed one after another, and a machine that has other work is slower for seconds at a
time. That only ever adds to a time: of several races, seconds apart, the least is taken. To divide by the time of a
known problem beside each measurement was tried: caches and sleeping threads disturb the two differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tenonrt.builder.offers import Offer
from tenonrt.builder.tuner import Tuner

# Two races agree when the best times are within a part of each other, or so many seconds, in which clocks differ.
_AGREES, _AGREES_SECONDS = 0.05, 1e-6
_MOST_ROUNDS = 4
# Beside other work, so many rounds at least: two sound races are further apart than in quiet, and it is between them.
_ROUNDS_BESIDE_WORK = 3
# All rounds together take at most so many times as long as the first races did, in quiet and beside other work.
_PATIENCE, _PATIENCE_BESIDE_WORK = 1.5, 3.0

Problems = Mapping[str, Sequence[Offer]]  # the rivals for each, by its key


def race_again(problems: Problems, tuner: Tuner, first_seconds: float, tell: Callable[[int, int, str], None]) -> None:
    """Race what this build has timed once more, problem by problem, and again where the races do not agree.

    first_seconds: what the first races took.
    """
    rounds, patience = (_ROUNDS_BESIDE_WORK, _PATIENCE_BESIDE_WORK) if tuner.disturbed else (1, _PATIENCE)
    stop = time.monotonic() + patience * first_seconds
    left = sorted(problems.values(), key=lambda rivals: -min(map(tuner.nanoseconds, rivals)))
    for number in range(1, _MOST_ROUNDS + 1):
        unsettled = []
        for done, rivals in enumerate(left):
            if time.monotonic() > stop:
                break
            tell(done, len(left), rivals[0].posed.region.name)
            raced = tuner.time_again(rivals)
            if raced is not None and not (number >= rounds and raced.sound and _agree(raced.before, raced.after)):
                unsettled.append(rivals)
        left = unsettled
    tuner.settle()


def _agree(before: float, after: float) -> bool:
    return abs(after - before) <= max(_AGREES * before, _AGREES_SECONDS)
