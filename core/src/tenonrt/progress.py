"""What a caller of a build may pass, to hear of it and to end it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a caller of a build may pass: called often; returning False cancels."""

    def __call__(self, phase: str, done: int, total: int, detail: str) -> bool | None: ...
