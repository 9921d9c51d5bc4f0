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
)

from tenonrt_layer_concatenation.operands import required
from tenonrt_layer_concatenation.parts import normalized_axis, view_of

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
        axis = normalized_axis(attrs.axis, first.rank)
        shape = list(first.shape)
        for given in others:
            if given.dtype != first.dtype or given.rank != first.rank:
                raise ValueError(f"all inputs need one element type and rank, found {first.type} and {given.type}")
            for i, d in enumerate(given.shape):
                shape[i] = shape[i] + d if i == axis else _equal(shape[i], d, i, [first, given])
        infos = [first, *others]
        hosted = any(i.place == "host" for i in infos) and all(i.place == "host" or i.value is not None for i in infos)
        return [TensorInfo(TensorType(tuple(shape), first.dtype), "host" if hosted else "device")]

    def reference(self, attrs: ConcatenationAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return [np.concatenate(_all(arrays), axis=attrs.axis)]

    def view(
        self, attrs: ConcatenationAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> View | None:
        shapes = [i.shape for i in _all(inputs)]
        return view_of("output", shapes, normalized_axis(attrs.axis, len(shapes[0])))

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


def _equal(a: Dimension, b: Dimension, axis: int, inputs: Sequence[TensorInfo]) -> Dimension:
    """The dimension both inputs have: of an integer and a symbol the integer, which the core checks when it runs."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        found = " and ".join(str(i.type) for i in inputs)
        raise ValueError(f"inputs {found} differ at axis {axis}, which is not joined: {a} and {b}")
    return b if isinstance(b, int) else a
