"""A registry for tests: it discovers nothing and holds only what is put into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import Registry
from tenonrt.plugins.selection import PluginSet

from tenonrt_testing.subjects import entries_of


@dataclass(frozen=True)
class Given:
    """Stands where an entry point would: ``load`` returns the object."""

    value: Any

    def load(self) -> Any:
        return self.value


class IsolatedRegistry(Registry):
    """Add classes by group and name, or everything that an installed distribution offers.

    Kernels added as objects can be chosen where nothing is timed or their ``runs_reference`` is true; the trial process
    of a build finds only installed ones.
    """

    def __init__(self) -> None:
        super().__init__(PluginSet(), [])
        self._held: dict[str, list[Entry]] = {}
        self._groups = self._held

    def add(self, group: str, name: str, value: Any, distribution: str = "test-plugin", version: str = "0") -> Entry:
        """Offer an object as an entry point would: ``add("tenonrt.layers", "acme.Swish6", Swish6Layer)``."""
        entry = Entry(group, name, f"{type(value).__module__}:{name}", distribution, version, Given(value))
        self._hold(entry)
        return entry

    def include(self, distribution: str) -> None:
        """Offer all entry points of an installed distribution."""
        found = entries_of([distribution])
        if not found:
            raise ValueError(f"the distribution {distribution!r} is not installed or offers nothing to TenonRT")
        for entry in found:
            self._hold(entry)

    def _hold(self, entry: Entry) -> None:
        held = self._held.setdefault(entry.group, [])
        held.append(entry)
        held.sort(key=lambda e: (e.name, e.distribution))
        self._found.clear()
