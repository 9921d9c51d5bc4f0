"""Softmax: exp(x) over its sum along one axis, or the logarithm of that (ONNX Softmax 13 and LogSoftmax 13)."""

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
    required,
    working_dtype,
)

from tenonrt_layer_softmax.axis import checked, length


class SoftmaxAttributes(Attributes, frozen=True):
    """axis: the one summed over, negative from the end. log: the result is log(softmax(x))."""

    axis: int = -1
    log: bool = False


class SoftmaxLayer(LayerType):
    """input of any shape with at least one axis; the maximum is subtracted first, so that nothing overflows."""

    Attrs: ClassVar[type[Attributes]] = SoftmaxAttributes
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        return [checked(attrs.axis, inputs).like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,) = required(arrays, 1)
        if not source.size:
            return [source.copy()]
        x = source.astype(working_dtype(source.dtype), copy=False)
        with np.errstate(invalid="ignore", under="ignore"):  # a row of -inf is NaN
            x = x - x.max(attrs.axis, keepdims=True)
            powers = np.exp(x)
            total = powers.sum(attrs.axis, keepdims=True)
            result = x - np.log(total) if attrs.log else powers / total
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return length(attrs.axis, inputs)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a maximum, a difference, an exponential (counted as one), a sum and a division."""
        return 5 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], **attrs: Any) -> Case:
            return Case(SoftmaxAttributes(**attrs), (TensorType(shape),), name)

        for log in (False, True):
            prefix = "log " if log else ""
            yield case(prefix + "last axis", (3, 37), log=log)
            yield case(prefix + "channels", (2, 5, 4, 3), axis=1, log=log)
            yield case(prefix + "first axis", (7, 6), axis=0, log=log)
            yield case(prefix + "negative axis", (2, 9, 4), axis=-2, log=log)
            yield case(prefix + "vector", (1000,), log=log)
            yield case(prefix + "size one", (4, 1), log=log)
            yield case(prefix + "empty", (3, 0), log=log)
            yield case(prefix + "empty batch", (0, 5), log=log)
        extreme = np.array([[1e4, 0.0, -1e4], [-np.inf, 0.0, 1.0], [88.0, 89.0, -88.0]], np.float32)
        yield Case(SoftmaxAttributes(), (extreme,), "extreme values")
