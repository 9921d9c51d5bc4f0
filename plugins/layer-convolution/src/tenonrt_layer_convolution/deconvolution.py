"""Deconvolution: the transpose of a convolution (ONNX ConvTranspose, TensorRT IDeconvolutionLayer)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    WindowAxis,
    differ,
    optional,
    per_axis,
    product,
    required,
    surely_less,
    transposed_crop,
    working_dtype,
)

from tenonrt_layer_convolution.correlate import tap_slices
from tenonrt_layer_convolution.operands import (
    add_bias,
    check_bias,
    check_groups,
    operands,
    window_size,
)
from tenonrt_layer_convolution.window import WindowAttributes, axes


class DeconvolutionAttributes(WindowAttributes, frozen=True):
    """As of Convolution, where padding crops the output, and "same_*" make the output input * stride.

    output_padding: elements added at the end of each spatial axis. output_shape: the spatial sizes wanted; the
    padding follows from them, its odd element at the beginning unless padding_mode is "same_upper".
    """

    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class TransposedAxis:
    """One spatial axis: a window is added at every ``stride`` elements, then ``pre`` elements are cropped."""

    axis: WindowAxis
    output_padding: int
    wanted: int | None

    def full(self, size: Dimension) -> Dimension:
        """Size before cropping."""
        return (size - 1) * self.axis.stride + (self.axis.extent + self.output_padding)

    def output(self, size: Dimension) -> Dimension:
        """Size of the output; `ValueError` when cropping leaves less than nothing."""
        if self.wanted is not None:
            return self.wanted
        if self.axis.mode.startswith("same"):
            return size * self.axis.stride
        output = self.full(size) - (self.axis.pre + self.axis.post)
        if surely_less(output, 0):
            raise ValueError(f"padding {self.axis.pre} + {self.axis.post} exceeds the full size {self.full(size)}")
        return output

    def crop(self, size: int) -> int:
        """Elements removed at the beginning; more at the end are whatever is left over."""
        made = known(self.output(size))
        return transposed_crop(self.axis, size, made, self.output_padding, wanted=self.wanted is not None)


def transposed_axes(attrs: DeconvolutionAttributes, window: Sequence[int]) -> list[TransposedAxis]:
    """Every spatial axis; `ValueError` for attributes of the wrong length or range."""
    extra = per_axis("output_padding", attrs.output_padding, len(window), 0)
    wanted: Sequence[int | None] = [None] * len(window)
    if attrs.output_shape:
        wanted = per_axis("output_shape", attrs.output_shape, len(window), 0)
    return [TransposedAxis(*values) for values in zip(axes(attrs, window), extra, wanted, strict=True)]


def scatter(source: Array, weights: Array, spatial: Sequence[TransposedAxis], groups: int) -> Array:
    """Add each input element times the weights [C, K/groups, *R] into the output [N, K, *O]."""
    count, channels, *sizes = source.shape
    kernels = weights.shape[1]
    windows = [t.axis for t in spatial]
    crops = [t.crop(size) for t, size in zip(spatial, sizes, strict=True)]
    outputs = [known(t.output(size)) for t, size in zip(spatial, sizes, strict=True)]
    fulls = [max(known(t.full(size)), c + o) for t, size, c, o in zip(spatial, sizes, crops, outputs, strict=True)]
    canvas = np.zeros((count, groups * kernels, *fulls), source.dtype)
    if source.size:
        columns = source.reshape(count, groups, channels // groups, -1)
        matrices = weights.reshape(groups, channels // groups, kernels, *weights.shape[2:])
        for tap in np.ndindex(*weights.shape[2:]):
            matrix = matrices[(..., *tap)].swapaxes(1, 2)
            part = np.matmul(matrix, columns).reshape(count, groups * kernels, *sizes)
            canvas[tap_slices(windows, tap, sizes)] += part
    kept: tuple[Any, ...] = (..., *(slice(c, c + o) for c, o in zip(crops, outputs, strict=True)))
    return np.ascontiguousarray(canvas[kept])


class DeconvolutionLayer(LayerType):
    """input [N, C, *S], weights [C, K/groups, *R], bias [K] to [N, K, *O]; 1 to 3 spatial axes."""

    Attrs: ClassVar[type[Attributes]] = DeconvolutionAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "weights", "bias?")
    pattern: ClassVar[Pattern] = "contraction"

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        source, weights, bias = operands(inputs)
        channels = weights.shape[1] * attrs.groups
        check_groups(attrs.groups, "input channels", weights.shape[0])
        if differ(source.shape[1], weights.shape[0]):
            raise ValueError(
                f"input {source.type} has {source.shape[1]} channels, expected {weights.shape[0]}: "
                f"weights are {weights.type}"
            )
        check_bias(bias, channels)
        spatial = transposed_axes(attrs, window_size(weights))
        sizes = [t.output(size) for t, size in zip(spatial, source.shape[2:], strict=True)]
        return [source.like((source.shape[0], channels, *sizes))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source, weights), bias = required(arrays, 2), optional(arrays, 2)
        dtype = working_dtype(source.dtype)
        output = scatter(
            source.astype(dtype, copy=False),
            weights.astype(dtype, copy=False),
            transposed_axes(attrs, weights.shape[2:]),
            attrs.groups,
        )
        return [add_bias(output, bias).astype(source.dtype, copy=False)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        """At most: every input channel of the group, and the window's elements that can meet in one output."""
        weights = operands(inputs)[1]
        windows = axes(attrs, window_size(weights))
        overlap = [min(a.window, -(-a.extent // a.stride)) for a in windows]
        channels: Dimension = weights.shape[0] // attrs.groups
        return channels * product(overlap)

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        source, weights, _ = operands(inputs)
        return 2 * source.type.size * product(weights.shape[1:])

    def cases(self) -> Iterable[Case]:
        def case(name: str, source: tuple[int, ...], weights: tuple[int, ...], bias: bool = True, **attrs: Any) -> Case:
            channels = TensorType((weights[1] * attrs.get("groups", 1),))
            types = (TensorType(source), TensorType(weights), channels if bias else None)
            return Case(DeconvolutionAttributes(**attrs), types, name)

        yield case("2x2 stride 2", (1, 6, 5, 4), (6, 3, 2, 2), stride=(2, 2))
        yield case("4x4 stride 2", (2, 4, 5, 6), (4, 3, 4, 4), stride=(2, 2), pre_padding=(1, 1), post_padding=(1, 1))
        yield case("no bias", (1, 3, 4, 4), (3, 5, 3, 3), bias=False)
        yield case("1x1", (2, 5, 4, 3), (5, 4, 1, 1))
        yield case("dilated", (1, 3, 5, 4), (3, 2, 3, 2), dilation=(2, 3), stride=(2, 1))
        yield case("uneven padding", (1, 3, 5, 4), (3, 2, 3, 4), pre_padding=(0, 2), post_padding=(2, 1))
        yield case("groups", (2, 6, 4, 5), (6, 2, 3, 3), groups=3, stride=(2, 1))
        yield case("depthwise", (1, 4, 5, 5), (4, 1, 4, 4), groups=4, stride=(2, 2), bias=False)
        yield case("output padding", (1, 3, 4, 4), (3, 2, 3, 3), stride=(3, 2), output_padding=(2, 1))
        yield case("output shape", (1, 3, 4, 4), (3, 2, 3, 3), stride=(2, 2), output_shape=(8, 7))
        yield case("same upper", (1, 3, 4, 5), (3, 2, 4, 3), stride=(2, 2), padding_mode="same_upper")
        yield case("same lower", (1, 3, 4, 5), (3, 2, 4, 3), stride=(2, 2), padding_mode="same_lower")
        yield case("gaps", (1, 2, 3, 3), (2, 2, 1, 2), stride=(3, 3), padding_mode="same_upper")
        yield case("one axis", (2, 3, 7), (3, 4, 5), stride=(3,), pre_padding=(1,), post_padding=(2,))
        yield case("three axes", (1, 2, 3, 2, 4), (2, 3, 2, 3, 2), stride=(1, 2, 2))
        yield case("size one", (1, 1, 1, 1), (1, 1, 1, 1))
        yield case("empty batch", (0, 3, 4, 4), (3, 2, 3, 3))


def known(dimension: Dimension) -> int:
    """A dimension of an array, which is never symbolic."""
    assert isinstance(dimension, int)
    return dimension
