"""Reading entry points. Nothing is imported here: names and metadata are all that routing needs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenonrt.errors import PluginError
from tenonrt.plugins.metadata import Distribution, distributions, headers_of, normal


class PluginWarning(UserWarning):
    """A plugin is present but cannot be used."""


@dataclass(frozen=True)
class Entry:
    """One entry point of one installed distribution."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    source: Any  # what loads it: the distribution's entry point, or an object for plugins registered by a test

    @property
    def id(self) -> str:
        """Unique and stable: ``tenonrt-kernel-numpy:*/*.numpy``."""
        return f"{self.distribution}:{self.name}"


@lru_cache(maxsize=1)
def scan() -> Mapping[str, Sequence[Entry]]:
    """Every ``tenonrt.*`` entry point by group, sorted by (name, distribution); read once a process."""
    groups: dict[str, list[Entry]] = {}
    for entry in _installed():
        groups.setdefault(entry.group, []).append(entry)
    return {group: sorted(entries, key=lambda e: (e.name, e.distribution)) for group, entries in groups.items()}


def _installed() -> Iterator[Entry]:
    seen = set()
    for distribution in distributions():
        try:
            points = distribution.entry_points()
            if not points:
                continue
            headers = distribution.headers()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one distribution, the others are found
            _complain(distribution, error)
            continue
        # The first distribution of a name on the path shadows later ones, as it does for imports.
        if normal(headers.name) not in seen:
            seen.add(normal(headers.name))
            for point in points:
                yield Entry(point.group, point.name, point.value, headers.name, headers.version, point)


def _complain(distribution: Distribution, error: Exception) -> None:
    """One loud line for metadata that cannot be read; an error where TENONRT_STRICT=1 asks for it."""
    line = f"the metadata in {distribution.path} cannot be read, its plugins are not found: {error!r}"
    if os.environ.get("TENONRT_STRICT") == "1":
        raise PluginError(line) from error
    warnings.warn(line, PluginWarning, stacklevel=2)


@lru_cache(maxsize=512)
def incompatibility(distribution: str) -> str | None:
    """Why a distribution's ``Requires-Dist: tenonrt-core`` excludes the core that runs, or None. Imports no plugin."""
    core, found = headers_of("tenonrt-core"), headers_of(distribution)
    if core is None or found is None:
        return None
    unsettled = [line for line in found.requires if not _surely_met(line, core.version)]
    return _excluded_by(unsettled, core.version) if unsettled else None


def _surely_met(line: str, installed: str) -> bool:
    """Whether a requirement is a name with simple bounds, and not one that excludes the core.

    Nearly all are, and importing `packaging` takes longer than loading a plan.
    """
    end = next((i for i, letter in enumerate(line) if letter in "<>"), len(line))
    name = line[:end].strip()
    if not all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name):
        return False
    limits = [_bound(bound.strip()) for bound in line[end:].split(",")] if end < len(line) else []
    if None in limits or not name:
        return False
    if normal(name) != "tenonrt-core":
        return True
    here = _release(installed)
    return here is not None and all((here >= limit[1]) == limit[0] for limit in limits if limit)


def _bound(text: str) -> tuple[bool, tuple[int, ...]] | None:
    """Whether it is a lower bound, and the release, of ``>=1.2`` and ``<2``; None for what is neither."""
    lower = text.startswith(">=")
    limit = _release(text[2:] if lower else text[1:])
    return (lower, limit) if limit is not None and (lower or text[0] == "<") else None


def _release(text: str) -> tuple[int, ...] | None:
    """1.2 and 1.2.0 are the same; None for what is no release of numbers alone."""
    parts = text.strip().split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        return None
    numbers = [int(part) for part in parts]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _excluded_by(requirements: Sequence[str], installed: str) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement

    for line in requirements:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            return f"its requirement {line!r} cannot be understood: {error}"
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if normal(requirement.name) == "tenonrt-core" and not requirement.specifier.contains(installed, True):
            return f"it requires {line!r}, and tenonrt-core {installed} is installed"
    return None
