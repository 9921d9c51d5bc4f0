"""Hardmax: 1 at the first largest element along an axis, 0 elsewhere (ONNX Hardmax 13)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Case,
    LayerType,
    Pattern,
    Run,
    TensorInfo,
    TensorType,
    Tolerance,
    required,
)

from tenonrt_layer_softmax.axis import checked


class HardmaxAttributes(Attributes, frozen=True):
    """axis: the one searched, negative from the end."""

    axis: int = -1


class HardmaxLayer(LayerType):
    """input of any shape with at least one axis; a NaN counts as the largest."""

    Attrs: ClassVar[type[Attributes]] = HardmaxAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        return [checked(attrs.axis, inputs).like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,) = required(arrays, 1)
        result = np.zeros_like(source)
        if source.size:
            first = np.expand_dims(source.argmax(attrs.axis), attrs.axis)
            np.put_along_axis(result, first, source.dtype.type(1), attrs.axis)
        return [result]

    def tolerance(self, dtype: str, reduction: int) -> Tolerance:
        """Zeros and ones: exact."""
        return Tolerance(0.0, 0.0)

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], axis: int = -1) -> Case:
            return Case(HardmaxAttributes(axis), (TensorType(shape),), name)

        yield case("last axis", (3, 17))
        yield case("channels", (2, 5, 4, 3), 1)
        yield case("first axis", (7, 6), 0)
        yield case("negative axis", (2, 9, 4), -2)
        yield case("vector", (33,))
        yield case("size one", (4, 1))
        yield case("empty", (3, 0))
        ties = np.array([[1, 3, 3, 2], [0, 0, 0, 0], [-1, -2, -1, -1]], np.float32)
        yield Case(HardmaxAttributes(), (ties,), "ties")
