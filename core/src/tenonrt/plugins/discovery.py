"""Reading entry points. Nothing is imported here: names and metadata are all that routing needs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tenonrt.errors import PluginError

PREFIX = "tenonrt."


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
    source: Any  # importlib_metadata.EntryPoint, or an object for plugins registered by a test

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
    from importlib_metadata import distributions

    seen = set()
    for distribution in distributions():
        try:
            points = [p for p in distribution.entry_points if p.group.startswith(PREFIX)]
            metadata: Any = distribution.metadata if points else {}  # reading it takes longer than all else here
            name, version = metadata.get("Name") or "unknown", metadata.get("Version") or ""
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one distribution, the others are found
            _complain(distribution, error)
            continue
        # The first distribution of a name on the path shadows later ones, as it does for imports.
        if points and _normal(name) not in seen:
            seen.add(_normal(name))
            for point in points:
                yield Entry(point.group, point.name, point.value, name, version, point)


def _complain(distribution: Any, error: Exception) -> None:
    """One loud line for metadata that cannot be read; an error where TENONRT_STRICT=1 asks for it."""
    where = distribution.locate_file("")
    line = f"a distribution in {where} has metadata that cannot be read, its plugins are not found: {error!r}"
    if os.environ.get("TENONRT_STRICT") == "1":
        raise PluginError(line) from error
    warnings.warn(line, PluginWarning, stacklevel=2)


def _normal(name: str) -> str:
    """Names of distributions compare without regard to case and to which of ``-_.`` separates their words."""
    return re.sub(r"[-_.]+", "-", name).lower()


@lru_cache(maxsize=512)
def incompatibility(distribution: str) -> str | None:
    """Why a distribution's ``Requires-Dist: tenonrt-core`` excludes the core that runs, or None. Imports no plugin."""
    from importlib_metadata import PackageNotFoundError, requires, version

    try:
        installed, requirements = version("tenonrt-core"), requires(distribution) or []
    except PackageNotFoundError:
        return None
    unsettled = [line for line in requirements if not _surely_met(line, installed)]
    return _excluded_by(unsettled, installed) if unsettled else None


_RELEASE = r"\d+(?:\.\d+)*"
_BOUND = rf"(>=|<)\s*({_RELEASE})"
_SIMPLE = re.compile(rf"([A-Za-z0-9][\w.-]*)((?:\s*{_BOUND}(?:\s*,\s*{_BOUND})*)?)")


def _surely_met(line: str, installed: str) -> bool:
    """Whether a requirement is a name with simple bounds, and not one that excludes the core.

    Nearly all are, and importing `packaging` takes longer than loading a plan.
    """
    found = _SIMPLE.fullmatch(line)
    if found is None:
        return False
    if _normal(found[1]) != "tenonrt-core":
        return True
    if re.fullmatch(_RELEASE, installed) is None:
        return False
    bounds = re.findall(_BOUND, found[2])
    return all((_release(installed) >= _release(limit)) == (sign == ">=") for sign, limit in bounds)


def _release(text: str) -> tuple[int, ...]:
    """1.2 and 1.2.0 are the same."""
    numbers = [int(part) for part in text.split(".")]
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
        if _normal(requirement.name) == "tenonrt-core" and not requirement.specifier.contains(installed, True):
            return f"it requires {line!r}, and tenonrt-core {installed} is installed"
    return None
