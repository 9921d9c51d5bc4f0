"""Which of the installed plugins an application uses."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tenonrt.plugins.discovery import Entry


@dataclass(frozen=True)
class PluginSet:
    """Patterns over distribution names and entry ids (``acme-*``, ``acme-kernels:cpu/Softmax.acme``).

    allow: None admits everything. deny: wins over allow. replace: distributions whose declared replacements of a layer
    kind or mapping are accepted. prefer: patterns in order of preference where nothing is timed.
    """

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    prefer: tuple[str, ...] = field(default=())

    def blocked(self, entry: Entry) -> str | None:
        """Why an entry may not be used, or None."""
        if _matches(entry, self.deny):
            return "denied by the application's plugin set"
        if self.allow is not None and not _matches(entry, self.allow):
            return "not in the application's list of allowed plugins"
        return None

    def rank(self, entry: Entry) -> int:
        """Position in the order of preference; unlisted plugins come last."""
        matches = (i for i, pattern in enumerate(self.prefer) if _matches(entry, (pattern,)))
        return next(matches, len(self.prefer))

    @classmethod
    def from_environment(cls) -> PluginSet:
        """``TENONRT_PLUGINS_ALLOW`` and ``TENONRT_PLUGINS_DENY``: comma-separated patterns."""
        allow = os.environ.get("TENONRT_PLUGINS_ALLOW")
        return cls(_split(allow) if allow is not None else None, _split(os.environ.get("TENONRT_PLUGINS_DENY", "")))


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _matches(entry: Entry, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(entry.distribution, p) or fnmatchcase(entry.id, p) for p in patterns)
