"""A step with its buffers, and a line of them bound to run: what a core hands a device, and gets back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from tenonrt.contracts import Executable, NativeCall


class Launch(msgspec.Struct, frozen=True):
    """One step of a program with its buffers: what a device binds. on_device: as its kernel says."""

    name: str
    executable: Executable | NativeCall
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    workspace: Any | None
    symbols: tuple[int, ...]
    on_device: bool = False


class Runnable(Protocol):
    """A straight line of launches bound to fixed buffers."""

    def run(self, stream: Any | None) -> None:
        """`ExecutionError` names the step that failed."""

    def time(self, stream: Any | None) -> list[float]:
        """Run once, waiting after each step: its seconds, in order (for profilers and the tuner)."""
