"""Telling the caller how far a build is, and measuring where its time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tenonrt.contracts import Progress
from tenonrt.errors import CancelledError


class Teller:
    """Calls the caller's progress function; its False ends the build."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def tell(self, phase: str, done: int, total: int, detail: str) -> None:
        """`CancelledError` when the caller does not want the build any more."""
        if self._progress is not None and self._progress(phase, done, total, detail) is False:
            raise CancelledError(f"the build was cancelled while it was at {phase} ({detail})")


class Clock:
    """Seconds by phase, added up over repeated phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
