"""What is under test: entry points of named distributions, and how they are loaded so that a failure names them."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from typing import Any

import pytest
from tenonrt.plugins.discovery import Entry, scan

_instances: dict[tuple[str, str], Any] = {}


def normalized(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def missing_distributions(names: Sequence[str]) -> list[str]:
    """Those of ``names`` that are not installed."""
    from importlib_metadata import PackageNotFoundError, distribution

    missing = []
    for name in names:
        try:
            distribution(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing


def entries_of(distributions: Sequence[str], group: str | None = None) -> list[Entry]:
    """The entry points of distributions, of one group or of all, in the order of discovery."""
    wanted = {normalized(name) for name in distributions}
    return [
        entry
        for found, entries in sorted(scan().items())
        if group in (None, found)
        for entry in entries
        if normalized(entry.distribution) in wanted
    ]


def load(entry: Entry) -> Any:
    """The object of an entry point; the test fails, naming it, when it cannot be imported."""
    try:
        return entry.source.load()
    except (Exception, SystemExit):  # noqa: BLE001 - a plugin's import may raise anything at all
        pytest.fail(f"{entry.id} {entry.version}: importing {entry.value} failed\n{traceback.format_exc()}", False)


def instance(entry: Entry) -> Any:
    """The one instance of an entry's class."""
    key = (entry.group, entry.id)
    if key not in _instances:
        _instances[key] = load(entry)()
    return _instances[key]


def report(problems: Sequence[str], rule: str) -> None:
    """Fail with every counterexample of a rule (the first twelve in full)."""
    if problems:
        more = f"\n... and {len(problems) - 12} more" if len(problems) > 12 else ""
        pytest.fail(f"{rule}:\n" + "\n".join(f"- {line}" for line in problems[:12]) + more, pytrace=False)
