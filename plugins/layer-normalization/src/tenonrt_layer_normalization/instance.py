"""InstanceNormalization: each channel of each image by itself (ONNX InstanceNormalization, Ulyanov et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

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
    product,
    required,
)

from tenonrt_layer_normalization.moments import affine, by_channel, standardized, widened
from tenonrt_layer_normalization.operands import check_channels, check_epsilon, floats


class InstanceNormalizationAttributes(Attributes, frozen=True):
    """epsilon: added to the variance."""

    epsilon: float = 1e-5


class InstanceNormalizationLayer(LayerType):
    """input [N, C, *S] to (x - mean) / sqrt(variance + epsilon) * scale + bias over S; the parameters are [C]."""

    Attrs: ClassVar[type[Attributes]] = InstanceNormalizationAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale", "bias")
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 3, "[N, C] and one spatial axis")
        check_epsilon(attrs.epsilon)
        check_channels(source, ("scale", "bias"), inputs[1:])
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        source, scale, bias = required(arrays, 3)
        normalized = standardized(widened(source), range(2, source.ndim), attrs.epsilon)[0]
        result = affine(normalized, by_channel(scale, source.ndim), by_channel(bias, source.ndim))
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return product(floats(inputs, 3, "[N, C] and one spatial axis").shape[2:])

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a sum, a difference, a multiply-add of squares, a product and the affine map."""
        return 7 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], **attrs: Any) -> Case:
            types = (TensorType(shape), *[TensorType(shape[1:2])] * 2)
            return Case(InstanceNormalizationAttributes(**attrs), types, name)

        yield case("image", (2, 5, 7, 6))
        yield case("epsilon", (1, 4, 3, 3), epsilon=0.5)
        yield case("one axis", (2, 4, 9))
        yield case("three axes", (1, 3, 2, 4, 5))
        yield case("one element", (2, 3, 1, 1))
        yield case("empty batch", (0, 3, 2, 2))
