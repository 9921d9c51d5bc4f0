"""Verbs that other distributions add (entry-point group ``tenonrt.commands``)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tenonrt.plugins.discovery import Entry, incompatibility, scan
from tenonrt.plugins.selection import PluginSet

GROUP = "tenonrt.commands"


@lru_cache(maxsize=1)
def contributed() -> dict[str, str]:
    """What the listing says of each contributed verb. Nothing is imported, so nothing can break the listing."""
    verbs: dict[str, str] = {}
    for entry in scan().get(GROUP, ()):
        text = _describe(entry)
        if text is not None:
            verbs[entry.name] = f"{verbs[entry.name]} and {text}" if entry.name in verbs else text
    return verbs


def _describe(entry: Entry) -> str | None:
    if PluginSet.from_environment().blocked(entry):
        return None
    unusable = incompatibility(entry.distribution)
    # Brackets would be read as markup.
    return f"From {entry.distribution} {entry.version}" + (" (incompatible)" if unusable else "") + "."


def load_contributed(name: str) -> Any:
    """The function of a contributed verb; `PluginError` when it cannot be imported or two distributions offer it."""
    from tenonrt.plugins.registry import COMMANDS, current_registry

    registry = current_registry()
    entry = registry.find(COMMANDS, name)
    assert entry is not None, "the verb was listed"
    return registry.load(entry)
