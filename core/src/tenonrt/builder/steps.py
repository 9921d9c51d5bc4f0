"""Times of steps in programs that run as wholes, with disturbed runs apart from sound ones.

Beside a process that never pauses no run of a whole program is sound, and half of its steps are nevertheless: threads
that are kept from their cores make those steps longer during which they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tenonrt.builder.timing import typical
from tenonrt.builder.watching import Watch
from tenonrt.runtime.runner import ProgramRunner
from tenonrt.types import Array

# So many sound runs of a step are enough to leave its disturbed ones out.
_ENOUGH = 8
# Where too few are, the longest of so small a part of a step's runs counts. The least would be chance, and of the runs
# of a step that takes a millisecond a quarter is not sound.
_LOW = 32


class StepTimes:
    """Collects runs by names of the caller's."""

    def __init__(self, watch: Watch | None) -> None:
        """``watch``: tells which runs of a program were disturbed; None: none was."""
        self._watch = watch
        self._sound: dict[str, list[float]] = {}
        self._disturbed: dict[str, list[float]] = {}

    def run(self, runner: ProgramRunner, inputs: Sequence[Array], names: Mapping[str, str]) -> None:
        """Run a program once and keep the times of some of its steps. ``names``: of these, what they are kept by."""
        spent: list[tuple[str, float]] = []
        if self._watch is not None:
            self._watch.begin()
        start = time.perf_counter()
        runner.run(inputs, profiler=lambda *timed: spent.append(timed))
        disturbed = self._watch is not None and self._watch.disturbed(time.perf_counter() - start)
        kept = self._disturbed if disturbed else self._sound
        for name, seconds in spent:
            if name in names:
                kept.setdefault(names[name], []).append(seconds)

    @property
    def settled(self) -> bool:
        """Whether every step had enough sound runs."""
        return all(len(self._sound.get(name, ())) >= _ENOUGH for name in self._names())

    def seconds(self) -> dict[str, float]:
        """What is typical of each step."""
        return {name: self._typical(name) for name in self._names()}

    def _names(self) -> set[str]:
        return {*self._sound, *self._disturbed}

    def _typical(self, name: str) -> float:
        sound = self._sound.get(name, [])
        if len(sound) >= _ENOUGH or name not in self._disturbed:
            return typical(sound)
        times = sorted(sound + self._disturbed[name])
        return times[len(times) // _LOW]
