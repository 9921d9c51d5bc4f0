"""The Flatten layer: a matrix from a tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from tenonrt.contracts import Array, Attributes, Case, Dimension, Run, TensorInfo, TensorType, product, required

from tenonrt_layer_shuffle.same_bytes import SameBytes


class FlattenAttributes(Attributes, frozen=True):
    """axis: the first one that goes to the columns, -rank to rank."""

    axis: int = 1


class FlattenLayer(SameBytes):
    """y[product of the axes before axis, product of the others]."""

    Attrs = FlattenAttributes

    def infer(self, attrs: FlattenAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        return [x.like(_matrix(attrs.axis, x.shape))]

    def reference(self, attrs: FlattenAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [x.reshape(cast("list[int]", _matrix(attrs.axis, x.shape)))]

    def cases(self) -> Iterable[Case]:
        for axis in (-1, 0, 1, 2, 4):
            yield Case(FlattenAttributes(axis), (TensorType((2, 3, 5, 1)),), f"axis {axis}")
        yield Case(FlattenAttributes(0), (TensorType(()),), "scalar")
        yield Case(FlattenAttributes(), (TensorType((0, 3)),), "empty")


def _matrix(axis: int, shape: Sequence[Dimension]) -> list[Dimension]:
    rank = len(shape)
    if not -rank <= axis <= rank:
        raise ValueError(f"axis is {axis}, expected -{rank} to {rank} for an input of rank {rank}")
    split = axis + rank if axis < 0 else axis
    return [product(shape[:split]), product(shape[split:])]
