"""Reading entry points. Nothing is imported here: names and metadata are all that routing needs."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from tenonrt.errors import PluginError
from tenonrt.plugins.metadata import Distribution, distributions, entry_points, group_names, headers_of, normal


class PluginWarning(UserWarning):
    """A plugin is present but cannot be used."""


class Entry(msgspec.Struct, frozen=True):
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
    """Every ``tenonrt.*`` entry point by group, sorted by (name, distribution); looked for once a process."""
    distributions.cache_clear()
    return InstalledGroups(distributions(tuple(sys.path)))


class InstalledGroups(Mapping[str, Sequence[Entry]]):
    """Groups whose distributions are understood when one is asked for: to run a plan, that is one or two."""

    def __init__(self, found: Sequence[Distribution]) -> None:
        self._files = list(_offering(found))
        self._names = set().union(*(group_names(data) for _, _, data in self._files))
        self._groups: dict[str, Sequence[Entry]] = {}
        self._understood: dict[int, Sequence[Entry]] = {}  # by position among the files
        if _strict():
            list(self.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, group: str) -> Sequence[Entry]:
        if group not in self._names:
            raise KeyError(group)
        if group not in self._groups:
            entries = [entry for entry in self._candidates(group) if entry.group == group]
            self._groups[group] = sorted(entries, key=lambda e: (e.name, e.distribution))
        return self._groups[group]

    def _candidates(self, group: str) -> Iterator[Entry]:
        """Entries of all distributions that may have some of the group."""
        wanted, seen = f"[{group}]".encode(), set[str]()
        for position, (name, _, data) in enumerate(self._files):
            if name in seen:  # the first distribution of a name on the path shadows later ones, as it does for imports
                continue
            if wanted in data:
                yield from self._entries(position)
            if self._understood.get(position, True):
                seen.add(name)

    def _entries(self, position: int) -> Sequence[Entry]:
        """All of a distribution, none where its metadata are broken."""
        if position not in self._understood:
            _, distribution, data = self._files[position]
            try:
                headers = distribution.headers()
                self._understood[position] = [
                    Entry(p.group, p.name, p.value, headers.name, headers.version, p) for p in entry_points(data)
                ]
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one distribution, the others are found
                self._understood[position] = ()
                _complain(distribution, error)
        return self._understood[position]


def _offering(found: Sequence[Distribution]) -> Iterator[tuple[str, Distribution, bytes]]:
    """Those that offer something to TenonRT: name, distribution, file of entry points."""
    for distribution in found:
        try:
            if data := distribution.groups():
                yield distribution.key, distribution, data
        except Exception as error:  # noqa: BLE001 - as below
            _complain(distribution, error)


def _strict() -> bool:
    return os.environ.get("TENONRT_STRICT") == "1"


def _complain(distribution: Distribution, error: Exception) -> None:
    """One loud line for metadata that cannot be read; an error where TENONRT_STRICT=1 asks for it."""
    line = f"the metadata in {distribution.path} cannot be read, its plugins are not found: {error!r}"
    if _strict():
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
