"""RmsNormalization over the last axes (ONNX RMSNormalization 23, Zhang and Sennrich 2019)."""

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
    optional,
    product,
    required,
)

from tenonrt_layer_normalization.moments import affine, mean, widened
from tenonrt_layer_normalization.operands import check_broadcast, check_epsilon, floats


class RmsNormalizationAttributes(Attributes, frozen=True):
    """axis: it and all later ones are normalized over. epsilon: added to the mean square."""

    axis: int = -1
    epsilon: float = 1e-5


class RmsNormalizationLayer(LayerType):
    """input to x / sqrt(mean of x^2 + epsilon) * scale, which broadcasts to the input."""

    Attrs: ClassVar[type[Attributes]] = RmsNormalizationAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale?")
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 1, "one axis")
        normalize_axis(attrs.axis, source.rank)
        check_epsilon(attrs.epsilon)
        check_broadcast(source, ("scale",), inputs[1:])
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,), scale = required(arrays, 1), optional(arrays, 1)
        x = widened(source)
        with np.errstate(all="ignore"):  # infinities and rows of 0 with epsilon 0 have the results of the standard
            square = mean(x * x, range(attrs.axis % x.ndim, x.ndim))
            result = affine(x / np.sqrt(square + x.dtype.type(attrs.epsilon)), scale, None)
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        source = floats(inputs, 1, "one axis")
        return product(source.shape[normalize_axis(attrs.axis, source.rank) :])

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a multiply-add of squares and two products."""
        return 4 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], scale: tuple[int, ...] | None, **attrs: Any) -> Case:
            types = (TensorType(shape), None if scale is None else TensorType(scale))
            return Case(RmsNormalizationAttributes(**attrs), types, name)

        yield case("tokens", (2, 7, 33), (33,))
        yield case("no scale", (3, 16), None)
        yield case("axis 1", (2, 3, 4), (3, 4), axis=1)
        yield case("axis from the end", (2, 3, 4), (3, 4), axis=-2, epsilon=0.1)
        yield case("one element", (4, 1), (1,))
        yield case("empty batch", (0, 8), (8,))
