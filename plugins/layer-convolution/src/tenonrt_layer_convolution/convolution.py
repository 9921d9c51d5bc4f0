"""Convolution: windows of the input, weighted and summed (ONNX Conv, TensorRT IConvolutionLayer)."""

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
    differ,
    optional,
    product,
    required,
    working_dtype,
)

from tenonrt_layer_convolution.correlate import correlate
from tenonrt_layer_convolution.operands import (
    add_bias,
    check_bias,
    check_groups,
    operands,
    window_size,
)
from tenonrt_layer_convolution.window import WindowAttributes, axes


class ConvolutionAttributes(WindowAttributes, frozen=True):
    """An empty tuple is ones (stride, dilation) or zeros (padding) for every spatial axis.

    padding_mode "same_upper" and "same_lower" pad so that the output is ceil(input / stride), the extra element of an
    odd padding at the end or at the beginning; "valid" pads nothing. They ignore pre_padding and post_padding.
    """


class ConvolutionLayer(LayerType):
    """input [N, C, *S], weights [K, C/groups, *R], bias [K] to [N, K, *O]; 1 to 3 spatial axes."""

    Attrs: ClassVar[type[Attributes]] = ConvolutionAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "weights", "bias?")
    pattern: ClassVar[Pattern] = "contraction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source, weights, bias = operands(inputs)
        channels = weights.shape[1] * attrs.groups
        check_groups(attrs.groups, "output channels", weights.shape[0])
        if differ(source.shape[1], channels):
            raise ValueError(
                f"input {source.type} has {source.shape[1]} channels, expected {channels}: "
                f"weights are {weights.type} and groups={attrs.groups}"
            )
        check_bias(bias, weights.shape[0])
        windows = axes(attrs, window_size(weights))
        positions = [a.output(size) for a, size in zip(windows, source.shape[2:], strict=True)]
        return [source.like((source.shape[0], weights.shape[0], *positions))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source, weights), bias = required(arrays, 2), optional(arrays, 2)
        dtype = working_dtype(source.dtype)
        output = correlate(
            source.astype(dtype, copy=False),
            weights.astype(dtype, copy=False),
            axes(attrs, weights.shape[2:]),
            attrs.groups,
        )
        return [add_bias(output, bias).astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        weights = operands(inputs)[1]
        return product(weights.shape[1:])

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 2 * outputs[0].type.size * self.reduction(attrs, inputs)

    def cases(self) -> Iterable[Case]:
        def case(name: str, source: tuple[int, ...], weights: tuple[int, ...], bias: bool = True, **attrs: Any) -> Case:
            types = [TensorType(source), TensorType(weights), TensorType(weights[:1]) if bias else None]
            return Case(ConvolutionAttributes(**attrs), tuple(types), name)

        yield case("3x3", (2, 5, 9, 11), (7, 5, 3, 3), pre_padding=(1, 1), post_padding=(1, 1))
        yield case("no bias", (1, 3, 8, 8), (4, 3, 3, 3), bias=False)
        yield case("1x1", (2, 16, 7, 5), (24, 16, 1, 1))
        yield case("1x1 strided", (1, 8, 7, 6), (8, 8, 1, 1), stride=(2, 3))
        yield case("stem", (1, 3, 33, 35), (16, 3, 7, 7), stride=(2, 2), pre_padding=(3, 3), post_padding=(3, 3))
        yield case("dilated", (1, 4, 13, 12), (6, 4, 3, 2), dilation=(2, 3))
        yield case("uneven padding", (1, 4, 6, 5), (3, 4, 3, 4), pre_padding=(0, 2), post_padding=(2, 1))
        yield case("groups", (2, 6, 8, 7), (9, 2, 3, 3), groups=3, stride=(1, 2))
        yield case("depthwise", (2, 8, 9, 9), (8, 1, 3, 3), groups=8, pre_padding=(1, 1), post_padding=(1, 1))
        yield case("depthwise multiplier", (1, 4, 9, 8), (12, 1, 5, 3), groups=4, stride=(2, 2))
        yield case("same upper", (1, 3, 8, 7), (4, 3, 2, 4), stride=(3, 2), padding_mode="same_upper")
        yield case("same lower", (1, 3, 8, 7), (4, 3, 2, 4), stride=(3, 2), padding_mode="same_lower")
        yield case("valid", (1, 3, 8, 7), (4, 3, 3, 3), padding_mode="valid")
        yield case("one axis", (2, 4, 17), (6, 4, 5), stride=(2,), pre_padding=(2,), post_padding=(1,))
        yield case("three axes", (1, 2, 5, 6, 7), (3, 2, 3, 2, 3), dilation=(1, 2, 1), stride=(2, 1, 2))
        yield case("three axes depthwise", (1, 3, 5, 6, 4), (3, 1, 3, 3, 3), groups=3)
        yield case("size one", (1, 1, 1, 1), (1, 1, 1, 1))
        yield case("empty batch", (0, 3, 6, 6), (4, 3, 3, 3))
