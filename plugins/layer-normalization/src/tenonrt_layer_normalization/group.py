"""GroupNormalization: groups of channels of each image together (ONNX GroupNormalization 21, Wu and He 2018)."""

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
    optional,
    product,
    required,
)

from tenonrt_layer_normalization.moments import affine, by_channel, standardized, widened
from tenonrt_layer_normalization.operands import check_channels, check_epsilon, floats


class GroupNormalizationAttributes(Attributes, frozen=True):
    """groups: how many the channels are divided into, evenly and in order. epsilon: added to the variance."""

    groups: int
    epsilon: float = 1e-5


class GroupNormalizationLayer(LayerType):
    """input [N, C, ...] to (x - mean) / sqrt(variance + epsilon) * scale + bias; the parameters are [C]."""

    Attrs: ClassVar[type[Attributes]] = GroupNormalizationAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "scale?", "bias?")
    pattern: ClassVar[Pattern] = "reduction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source = floats(inputs, 2, "[N, C]")
        channels = source.shape[1]
        if attrs.groups < 1 or (isinstance(channels, int) and channels % attrs.groups):
            raise ValueError(
                f"groups is {attrs.groups}, expected a divisor of the {channels} channels in {source.type}"
            )
        check_epsilon(attrs.epsilon)
        check_channels(source, ("scale", "bias"), inputs[1:])
        return [source.like()]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source,), scale, bias = required(arrays, 1), optional(arrays, 1), optional(arrays, 2)
        count, channels, *sizes = source.shape
        grouped = widened(source).reshape(count, attrs.groups, channels // attrs.groups, *sizes)
        normalized = standardized(grouped, range(2, grouped.ndim), attrs.epsilon)[0].reshape(source.shape)
        result = affine(normalized, by_channel(scale, source.ndim), by_channel(bias, source.ndim))
        return [result.astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return product(floats(inputs, 2, "[N, C]").shape[1:]) // int(attrs.groups)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """For each element a sum, a difference, a multiply-add of squares, a product and the affine map."""
        return 7 * outputs[0].type.size

    def cases(self) -> Iterable[Case]:
        def case(name: str, shape: tuple[int, ...], groups: int, parameters: str = "both", **attrs: Any) -> Case:
            channels = TensorType(shape[1:2])
            given = {"both": (channels, channels), "scale": (channels, None), "none": (None, None)}
            return Case(GroupNormalizationAttributes(groups, **attrs), (TensorType(shape), *given[parameters]), name)

        yield case("image", (2, 6, 5, 4), 3)
        yield case("one group", (2, 6, 5, 4), 1)
        yield case("a group for each channel", (2, 6, 5, 4), 6)
        yield case("epsilon", (1, 4, 3, 3), 2, epsilon=0.5)
        yield case("scale only", (1, 4, 3, 3), 2, "scale")
        yield case("no parameters", (1, 4, 3, 3), 2, "none")
        yield case("vectors", (3, 8), 2)
        yield case("one axis", (2, 4, 9), 2)
        yield case("three axes", (1, 4, 2, 3, 5), 2)
        yield case("empty batch", (0, 4, 2, 2), 2)
