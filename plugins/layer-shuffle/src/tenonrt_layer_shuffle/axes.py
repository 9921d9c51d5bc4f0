"""Axes that may be negative or out of range."""

from __future__ import annotations

from collections.abc import Iterable


def normalized(axes: Iterable[int], rank: int) -> list[int]:
    """The axes counted from zero, in the order given; `ValueError` for one out of range or given twice."""
    axes = list(axes)
    outside = [axis for axis in axes if not -rank <= axis < rank]
    if outside:
        raise ValueError(f"axes {outside} are outside -{rank}..{rank - 1}, the axes of a tensor of rank {rank}")
    result = [axis % rank for axis in axes]
    if len(set(result)) != len(result):
        raise ValueError(f"axes {axes} name an axis of a tensor of rank {rank} twice")
    return result
