"""LpNormalization: vectors along one axis divided by their norm (ONNX LpNormalization)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    normalize_axis,
    required,
)

from tenonrt_layer_normalization.moments import widened
from tenonrt_layer_normalization.operands import floats


class LpNormalizationAttributes(Attributes, frozen=True):
    """axis: the one that vectors lie along. p: 1 for the sum of absolute values, 2 for the Euclidean norm."""

    axis: int = -1
    p: int = 2


class LpNormalizationLayer(LayerType):
    """input of any shape with at least one axis; a vector of zeros stays as it is."""

    Attrs: ClassVar[type[Attributes]] = LpNormalizationAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 1, "one axis")
        normalize_axis(attrs.axis, source.rank)
        if attrs.p not in {1, 2}:
            raise ValueError(f"p is {attrs.p}, expected 1 or 2")
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,) = required(arrays, 1)
        x = widened(source)
        with np.errstate(all="ignore"):  # infinities have the results of the standard
            norm = np.abs(x).sum(attrs.axis, keepdims=True) if attrs.p == 1 else _euclidean(x, attrs.axis)
            result = x / np.where(norm == 0, x.dtype.type(1), norm)
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        source = floats(inputs, 1, "one axis")
        return source.shape[normalize_axis(attrs.axis, source.rank)]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a multiply-add and a division."""
        return 3 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], **attrs: Any) -> Case:
            return Case(LpNormalizationAttributes(**attrs), (TensorType(shape),), name)

        yield case("last axis", (3, 17))
        yield case("p 1", (3, 17), p=1)
        yield case("channels", (2, 5, 4, 3), axis=1)
        yield case("first axis", (6, 4), axis=0, p=1)
        yield case("vector", (33,))
        yield case("one element", (4, 1))
        yield case("empty", (0, 5))
        yield Case(LpNormalizationAttributes(), (np.zeros((2, 3), np.float32),), "zeros")


def _euclidean(x: Array, axis: int) -> Array:
    norm: Array = np.sqrt((x * x).sum(axis, keepdims=True))
    return norm
