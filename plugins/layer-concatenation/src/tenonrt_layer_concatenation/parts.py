"""Pieces of a tensor along one axis: where they begin, and how a view states them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tenonrt.contracts import Dim, Dimension, Part, Shape, View

WHOLE = (0, sys.maxsize, 1)  # an axis of symbolic length that is taken whole, as a Python slice would say it


def pieces(shapes: Sequence[Shape], axis: int) -> tuple[Part, ...] | None:
    """The slices of the whole that the pieces are; None when a beginning depends on a symbol."""
    result: list[Part] = []
    offset: Dimension = 0
    for shape in shapes:
        if isinstance(offset, Dim):
            return None
        spans = [WHOLE if isinstance(d, Dim) else (0, d, 1) for d in shape]
        length = shape[axis]
        spans[axis] = (offset, sys.maxsize if isinstance(length, Dim) else offset + length, 1)
        result.append(tuple(spans))
        offset = offset + length
    return tuple(result)


def view_of(side: str, shapes: Sequence[Shape], axis: int) -> View | None:
    """The view whose ``side`` is the whole; None when the pieces cannot be stated."""
    parts = pieces(shapes, axis)
    return None if parts is None else View("output" if side == "output" else "input", parts)
