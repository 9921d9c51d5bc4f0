"""The checks that Softmax and Hardmax share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import FLOATS, Dimension, TensorInfo, normalize_axis, required


def checked(axis: int, inputs: Sequence[TensorInfo | None]) -> TensorInfo:
    """The input; `ValueError` unless it holds floats and has the axis."""
    (source,) = required(inputs, 1)
    if source.dtype not in FLOATS:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(FLOATS)}")
    normalize_axis(axis, source.rank)
    return source


def length(axis: int, inputs: Sequence[TensorInfo | None]) -> Dimension:
    """The size of the input along the axis."""
    return checked(axis, inputs).shape[axis]
