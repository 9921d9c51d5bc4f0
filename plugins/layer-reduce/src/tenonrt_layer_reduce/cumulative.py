"""The CumulativeSum and CumulativeProduct layers: running totals along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

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
    normalize_axis,
    product,
    required,
    working_dtype,
)


class CumulativeAttributes(Attributes, frozen=True):
    """exclusive: an element's total leaves out itself. reverse: totals run from the axis' end."""

    exclusive: bool = False
    reverse: bool = False


class _CumulativeLayer(LayerType):
    """x[0], x[0] o x[1], ... along an axis, which is a scalar on the host."""

    kind: ClassVar[str]
    operation: ClassVar[np.ufunc]
    Attrs = CumulativeAttributes
    inputs = ("input", "axis")
    shape_inputs = (1,)

    def infer(self, attrs: CumulativeAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        x, axis = required(inputs, 2)
        if not (is_float(x.dtype) or x.dtype.startswith(("int", "uint"))):
            raise ValueError(f"{self.kind} takes real numbers, found {x.type}")
        if axis.shape not in {(), (1,)} or axis.dtype not in {"int32", "int64"}:
            raise ValueError(f"the axis must be an integer scalar, found {axis.type}")
        if axis.value is not None:
            normalize_axis(axis.integers()[0], x.rank)
        return [x.like()]

    def reference(self, attrs: CumulativeAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        x, given = required(arrays, 2)
        axis = normalize_axis(int(given.reshape(-1)[0]), x.ndim)
        wide = x.astype(working_dtype(x.dtype), copy=False)
        terms = np.flip(wide, axis) if attrs.reverse else wide
        if attrs.exclusive and terms.shape[axis]:  # the first total is of nothing, the last element is in none
            terms = np.insert(np.delete(terms, -1, axis), 0, self.operation.identity, axis)
        totals = self.operation.accumulate(terms, axis, dtype=terms.dtype)
        return [(np.flip(totals, axis) if attrs.reverse else totals).astype(x.dtype, copy=False)]

    def reduction(self, attrs: CumulativeAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        x, axis = required(inputs, 2)
        return product(x.shape) if axis.value is None else x.shape[normalize_axis(axis.integers()[0], x.rank)]

    def flops(
        self, attrs: CumulativeAttributes, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]
    ) -> Dimension:
        return required(inputs, 1)[0].type.size

    def sample(
        self, attrs: CumulativeAttributes, types: Sequence[TensorType | None], rng: np.random.Generator
    ) -> list[Array | None]:
        x, axis = required(types, 2)
        return [draw(x, rng), np.zeros(axis.concrete({}), axis.numpy)]

    def cases(self) -> Iterable[Case]:
        for exclusive in (False, True):
            for reverse in (False, True):
                attrs = CumulativeAttributes(exclusive, reverse)
                for shape, axis in (((3, 5), 1), ((2, 3, 4), -3), ((1,), 0), ((0, 2), 0)):
                    name = f"{shape} axis {axis} exclusive {exclusive} reverse {reverse}"
                    yield Case(attrs, (TensorType(shape), np.array(axis, np.int64)), name)
        yield Case(CumulativeAttributes(), (TensorType((4, 3), "int32"), np.array(0, np.int32)), "integers")


class CumulativeSumLayer(_CumulativeLayer):
    """y[i] = x[0] + ... + x[i] along an axis, which is a scalar on the host (ONNX CumSum)."""

    kind = "CumulativeSum"
    operation = np.add


class CumulativeProductLayer(_CumulativeLayer):
    """y[i] = x[0] * ... * x[i] along an axis, which is a scalar on the host (ONNX CumProd)."""

    kind = "CumulativeProduct"
    operation = np.multiply
