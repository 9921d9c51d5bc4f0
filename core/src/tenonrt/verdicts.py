"""What hook plugins are shown and answer, and how their functions are marked. The hooks: `tenonrt.plugins.hooks`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

import msgspec

from tenonrt.problem import Tactic


class Candidate(msgspec.Struct, frozen=True):
    """One tactic of one kernel for one problem, as hooks see it: not yet tried, never with a time."""

    kernel: str  # the entry's id, acme-kernels:cpu/Softmax.acme
    version: str
    tactic: Tactic
    estimate: float | None = None  # seconds, the kernel's own guess

    @property
    def id(self) -> str:
        """Unique within a problem: ``acme-kernels:cpu/Softmax.acme#default``."""
        return f"{self.kernel}#{self.tactic.key}"


class Verdict(msgspec.Struct, frozen=True):
    """What a plugin decides about a candidate, by its id. A pin forbids the problem's candidates that have none."""

    action: Literal["forbid", "pin"]
    candidate: str
    reason: str


H = TypeVar("H", bound=Callable[..., Any])


@overload
def hookimpl(function: H, /) -> H: ...
@overload
def hookimpl(*, tryfirst: bool = False, trylast: bool = False) -> Callable[[H], H]: ...
def hookimpl(function: H | None = None, *, tryfirst: bool = False, trylast: bool = False) -> Any:
    """Mark a function that implements the hook of its name; `tenonrt.plugins.hooks` has the specifications.

    It takes those of the specification's arguments that it wants. Plugins are called in the order of their ids,
    ``tryfirst`` before and ``trylast`` after the others.
    """

    def mark(function: H) -> H:
        # What pluggy.HookimplMarker("tenonrt") would set, without importing pluggy wherever a contract is needed.
        order = {"tryfirst": tryfirst, "trylast": trylast}
        options = {**order, "wrapper": False, "hookwrapper": False, "optionalhook": False, "specname": None}
        function.tenonrt_impl = options  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)
