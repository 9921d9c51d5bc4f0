"""Reading entry points. Nothing is imported here: names and metadata are all that routing needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

PREFIX = "tenonrt."


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
        points = [p for p in distribution.entry_points if p.group.startswith(PREFIX)]
        if not points:
            continue
        name = distribution.metadata["Name"] or "unknown"
        # The first distribution of a name on the path shadows later ones, as it does for imports.
        if name in seen:
            continue
        seen.add(name)
        for point in points:
            yield Entry(point.group, point.name, point.value, name, distribution.version, point)


@lru_cache(maxsize=512)
def incompatibility(distribution: str) -> str | None:
    """Why a distribution's ``Requires-Dist: tenonrt-core`` excludes the core that runs, or None. Imports no plugin."""
    from importlib_metadata import PackageNotFoundError, requires, version
    from packaging.requirements import Requirement

    try:
        installed, requirements = version("tenonrt-core"), requires(distribution) or []
    except PackageNotFoundError:
        return None
    for line in requirements:
        requirement = Requirement(line)
        if requirement.name.lower() == "tenonrt-core" and not requirement.specifier.contains(installed, True):
            return f"it requires {line!r}, and tenonrt-core {installed} is installed"
    return None
