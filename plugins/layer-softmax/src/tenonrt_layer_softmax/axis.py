"""The checks that Softmax and Hardmax share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Dimension, TensorInfo

DTYPES = ("float16", "bfloat16", "float32", "float64")


def checked(axis: int, inputs: Sequence[TensorInfo | None]) -> TensorInfo:
    """The input; `ValueError` unless it holds floats and has the axis."""
    source = inputs[0]
    assert source is not None
    if source.dtype not in DTYPES:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(DTYPES)}")
    if not -source.rank <= axis < source.rank:
        raise ValueError(f"axis is {axis}, expected one of the {source.rank} axes of input {source.type}")
    return source


def length(axis: int, inputs: Sequence[TensorInfo | None]) -> Dimension:
    """The size of the input along the axis."""
    return checked(axis, inputs).shape[axis]
