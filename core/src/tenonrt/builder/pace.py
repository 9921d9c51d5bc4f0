"""How fast the machine is at the moment: one step that is run again and again, against its best time.

Virtual cores that share a real one with others are half as fast for seconds at a time. Rivals of one race run in turn
and suffer alike, but a cover adds up times of different races, and one half as fast would lose for no fault of its own.
"""

from __future__ import annotations

from collections.abc import Callable

# What a yardstick may take: long enough to notice, short enough to be run in every round of a race.
_SHORTEST, _LONGEST = 100e-6, 2e-3
# Runs that settle its best time, and those of one reading, of which the least counts: the first finds cold caches.
_SETTLING, _READING = 40, 2


class Pace:
    """Readings of at least 1: how many times as long the yardstick takes as it did at best."""

    def __init__(self) -> None:
        self._run: Callable[[], float] | None = None
        self._best = float("inf")

    def adopt(self, run: Callable[[], float], seconds: float) -> None:
        """Take a step as the yardstick, unless there is one or it is not of a fitting length. run: its seconds."""
        if self._run is None and _SHORTEST <= seconds <= _LONGEST:
            self._run = run
            self._best = min(run() for _ in range(_SETTLING))

    def read(self) -> float:
        """The pace of this moment; 1 while there is no yardstick."""
        if self._run is None:
            return 1.0
        seconds = min(self._run() for _ in range(_READING))
        self._best = min(self._best, seconds)
        return seconds / self._best

    def delay(self, before: float) -> float:
        """Seconds by which the yardstick is later than at this pace: what the step that ran just now did to it."""
        return 0.0 if self._run is None else max(0.0, self._run() - before * self._best)
