"""The Concatenation layer: tensors joined along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    View,
    common_place,
    normalize_axis,
    required,
    same,
)

from tenonrt_layer_concatenation.parts import view_of

T = TypeVar("T")


class ConcatenationAttributes(Attributes, frozen=True):
    """axis: along which the inputs follow each other; negative counts from the last."""

    axis: int


class ConcatenationLayer(LayerType):
    """y = the inputs one after the other; their other dimensions are equal."""

    Attrs = ConcatenationAttributes
    inputs = ("inputs*",)
    pattern = "movement"
    shape_arithmetic = True

    def infer(self, attrs: ConcatenationAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        first, *others = _all(inputs)
        axis = normalize_axis(attrs.axis, first.rank)
        shape = list(first.shape)
        for number, given in enumerate(others, start=1):
            if given.dtype != first.dtype or given.rank != first.rank:
                raise ValueError(f"all inputs need one element type and rank, found {first.type} and {given.type}")
            for i, d in enumerate(given.shape):
                shape[i] = shape[i] + d if i == axis else same(shape[i], d, f"axis {i} of input {number}")
        return [TensorInfo(TensorType(tuple(shape), first.dtype), common_place([first, *others]))]

    def reference(self, attrs: ConcatenationAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return [np.concatenate(_all(arrays), axis=attrs.axis)]

    def view(
        self, attrs: ConcatenationAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> View | None:
        shapes = [i.shape for i in _all(inputs)]
        return view_of("output", shapes, normalize_axis(attrs.axis, len(shapes[0])))

    def flops(
        self, attrs: ConcatenationAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return 0

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[int, tuple[tuple[int, ...], ...]]] = [
            (1, ((2, 3, 4), (2, 5, 4))),
            (0, ((1, 7), (3, 7), (2, 7))),
            (-1, ((2, 3, 1), (2, 3, 17))),
            (1, ((1, 16, 3, 5), (1, 32, 3, 5), (1, 7, 3, 5))),
            (0, ((3,),)),
            (0, ((0, 2), (3, 2))),
        ]
        for axis, shapes in examples:
            yield Case(ConcatenationAttributes(axis), tuple(TensorType(s) for s in shapes), f"axis {axis} of {shapes}")
        integers = TensorType((2, 3), "int64")
        yield Case(ConcatenationAttributes(1), (integers, integers), "integers")


def _all(operands: Sequence[T | None]) -> list[T]:
    return required(operands, max(len(operands), 1))
