"""A hook that wants what its moment does not offer."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import hookimpl


@hookimpl
def choose(problem: Any, times: Any) -> None:
    """Times are never shown to hooks."""
