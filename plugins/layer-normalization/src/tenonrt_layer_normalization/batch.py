"""BatchNormalization with given statistics: an affine map for each channel (ONNX, Ioffe and Szegedy 2015)."""

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
    draw,
    required,
)

from tenonrt_layer_normalization.moments import affine, by_channel, widened
from tenonrt_layer_normalization.operands import check_channels, check_epsilon, floats

PARAMETERS = ("scale", "bias", "mean", "variance")


class BatchNormalizationAttributes(Attributes, frozen=True):
    """epsilon: added to the variance."""

    epsilon: float = 1e-5


class BatchNormalizationLayer(LayerType):
    """input [N, C, ...] to (x - mean) / sqrt(variance + epsilon) * scale + bias; the parameters are [C]."""

    Attrs: ClassVar[type[Attributes]] = BatchNormalizationAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", *PARAMETERS)
    pattern: ClassVar[Pattern] = "pointwise"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 2, "[N, C]")
        check_epsilon(attrs.epsilon)
        check_channels(source, PARAMETERS, inputs[1:])
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        source, *parameters = required(arrays, 5)
        x = widened(source)
        scale, bias, mean, variance = required([by_channel(p, x.ndim) for p in parameters], 4)
        with np.errstate(all="ignore"):  # a variance of 0 with epsilon 0 is an infinity or NaN
            deviation = np.sqrt(variance.astype(x.dtype) + x.dtype.type(attrs.epsilon))
            result = affine((x - mean.astype(x.dtype)) / deviation, scale, bias)
        return [result.astype(source.dtype, copy=False)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Variances are positive."""
        *others, variance = (draw(t, rng) for t in required(types, 5))
        return [*others, (np.abs(variance) + variance.dtype.type(0.25)).astype(variance.dtype)]

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """A multiply-add for each element: the rest is done once for each channel."""
        return 2 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], **attrs: Any) -> Case:
            types = (TensorType(shape), *[TensorType(shape[1:2])] * len(PARAMETERS))
            return Case(BatchNormalizationAttributes(**attrs), types, name)

        yield case("image", (2, 5, 4, 3))
        yield case("epsilon", (1, 4, 3, 3), epsilon=0.5)
        yield case("vectors", (3, 17))
        yield case("one axis", (2, 4, 9))
        yield case("three axes", (1, 3, 2, 4, 5))
        yield case("size one", (1, 1, 1, 1))
        yield case("empty batch", (0, 3, 2, 2))
