"""Access to a layer's inputs, of which the optional ones may be absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def required(operands: Sequence[T | None], count: int) -> list[T]:
    """The first ``count`` operands, all of which must be there; `ValueError` names the one that is not."""
    for index in range(count):
        if index >= len(operands) or operands[index] is None:
            raise ValueError(f"input {index} is missing; {count} inputs are required")
    return [operand for operand in operands[:count] if operand is not None]


def optional(operands: Sequence[T | None], index: int) -> T | None:
    """The operand at ``index``, or None where it was left out."""
    return operands[index] if index < len(operands) else None
