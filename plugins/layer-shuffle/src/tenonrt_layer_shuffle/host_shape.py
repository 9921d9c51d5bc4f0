"""Shapes given as the values of a host input."""

from __future__ import annotations

from tenonrt.contracts import Dim, Dimension, TensorInfo


def length(shape: TensorInfo, what: str) -> int:
    """How many elements a vector input has; `ValueError` when it is no integer vector of static length."""
    if shape.rank != 1 or isinstance(shape.shape[0], Dim) or shape.dtype not in {"int32", "int64"}:
        raise ValueError(f"{what} must be a vector of int64 with a static length, found {shape.type}")
    return shape.shape[0]


def values(shape: TensorInfo) -> list[Dimension] | None:
    """The elements where they are known: integers and symbolic dimensions."""
    if shape.value is None:
        return None
    return [v if isinstance(v, Dim) else int(v) for v in shape.value.reshape(-1)]
