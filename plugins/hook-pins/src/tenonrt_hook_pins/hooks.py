"""The hook implementations. A build is followed in a context variable, so that two threads may build at once."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from tenonrt import BuilderConfig, BuildReport
from tenonrt.contracts import Candidate, Problem, Verdict, hookimpl

from tenonrt_hook_pins.pins import Pins, current

LOG_VARIABLE = "TENONRT_BUILD_LOG"


@dataclass
class Build:
    """What was seen of the build under way."""

    pins: Pins = field(default_factory=Pins)
    problems: dict[str, int] = field(default_factory=dict)  # candidates by the problem's key
    unused: set[str] = field(default_factory=set)  # pins that no problem has met yet


_build: ContextVar[Build] = ContextVar("tenonrt_hook_pins_build")


def _current() -> Build:
    # A plugin set that another plugin configured may let this one in too late to be asked to configure.
    if _build.get(None) is None:
        _start()
    return _build.get()


def _start() -> None:
    pins = current()
    _build.set(Build(pins, unused={pin.problem for pin in pins.pin}))


@hookimpl
def configure(config: BuilderConfig) -> None:
    """Read the settings, so that a mistake in them ends the build before anything is tuned."""
    _start()


@hookimpl
def candidates(problem: Problem, key: str, regions: tuple[str, ...], candidates: Sequence[Candidate]) -> None:
    """Count for the log, and note which pins have met their problem."""
    build = _current()
    build.problems[key] = len(candidates)
    build.unused -= {pin.problem for pin in build.pins.pin if pin.concerns(problem, key, regions)}


@hookimpl
def choose(
    problem: Problem, key: str, regions: tuple[str, ...], candidates: Sequence[Candidate]
) -> Sequence[Verdict] | None:
    """Forbid and pin as the settings say."""
    return _current().pins.verdicts(problem, key, regions, candidates)


@hookimpl
def built(network: str, report: BuildReport, misses: int) -> None:
    """Append a line to the log, and warn of pins that met no problem."""
    build = _current()
    if path := os.environ.get(LOG_VARIABLE):
        line = {
            "network": network,
            "cost": report.cost,
            "steps": report.ladder[-1].layers,
            "misses": misses,
            "problems": len(build.problems),
            "candidates": sum(build.problems.values()),
        }
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
    for problem in sorted(build.unused):
        warnings.warn(
            f"{build.pins.where}: pin.{problem!r} is no problem of the network {network!r}; `tenonrt inspect` of its "
            f"plan shows the names",
            stacklevel=1,
        )
