"""The Reduce layer: many elements combined into one along some axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

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
    draw,
    is_float,
    normalize_axes,
    product,
    required,
)

from tenonrt_layer_reduce.operations import OPERATIONS, reduced

OperationName = Literal["sum", "prod", "max", "min", "mean", "l1", "l2", "log_sum", "log_sum_exp", "sum_square"]


class ReduceAttributes(Attributes, frozen=True):
    """axes: those combined, negative from the end; None: all; empty: none, so that only |x|, x^2 or log are taken.

    keep_dims: whether they stay, with length one. Of nothing: sum 0, prod 1, max the least value, min the largest.
    """

    operation: OperationName
    axes: tuple[int, ...] | None = None
    keep_dims: bool = True


class ReduceLayer(LayerType):
    """y = operation of x over the axes, by the ONNX operators ReduceSum, ReduceLogSumExp and so on."""

    Attrs = ReduceAttributes
    pattern = "reduction"
    shape_arithmetic = True

    def infer(self, attrs: ReduceAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        (x,) = required(inputs, 1)
        if attrs.operation not in OPERATIONS:
            raise ValueError(f"unknown reduction {attrs.operation!r}; known are {', '.join(OPERATIONS)}")
        boolean = x.dtype == "bool" and attrs.operation in {"max", "min"}
        if not (is_float(x.dtype) or x.dtype.startswith(("int", "uint")) or boolean):
            raise ValueError(f"{attrs.operation} takes real numbers (max and min also booleans), found {x.type}")
        axes = _axes(attrs.axes, x.rank)
        kept = [1 if i in axes else d for i, d in enumerate(x.shape) if attrs.keep_dims or i not in axes]
        return [x.like(kept)]

    def reference(self, attrs: ReduceAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (x,) = required(arrays, 1)
        return [reduced(attrs.operation, x, _axes(attrs.axes, x.ndim), keep_dims=attrs.keep_dims)]

    def reduction(self, attrs: ReduceAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        (x,) = required(inputs, 1)
        return product(x.shape[axis] for axis in _axes(attrs.axes, x.rank))

    def sample(
        self, attrs: ReduceAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x = draw(required(types, 1)[0], rng)
        if attrs.operation == "log_sum":  # sums stay above zero
            x = np.asarray(np.abs(x) + np.ones((), x.dtype)).astype(x.dtype)
        return [x]

    def cases(self) -> Iterable[Case]:
        operations: tuple[OperationName, ...] = (
            "sum", "prod", "max", "min", "mean", "l1", "l2", "log_sum", "log_sum_exp", "sum_square",
        )  # fmt: skip
        for operation in operations:
            for axes, keep in (((1,), True), ((-1, 0), False), (None, True), ((), True)):
                attrs = ReduceAttributes(operation, axes, keep)
                yield Case(attrs, (TensorType((3, 5, 7)),), f"{operation} {axes} {keep}")
        for shape, axes in (((2, 16, 5, 7), (2, 3)), ((), None), ((1,), (0,)), ((0, 3), (1,)), ((9, 1), (1,))):
            yield Case(ReduceAttributes("sum", axes), (TensorType(shape),), f"{shape} over {axes}")
        for operation in ("sum", "prod", "max", "min", "mean"):
            yield Case(ReduceAttributes(operation, (0,)), (TensorType((3, 5), "int64"),), f"{operation} of integers")


def _axes(axes: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    if axes is None:
        return tuple(range(rank))
    return tuple(sorted(normalize_axes(axes, rank)))
