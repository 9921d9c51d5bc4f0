"""DeformableConvolution: taps of the window read where offsets say (Dai et al. 2017, masks: Zhu et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    WindowAxis,
    differ,
    draw,
    optional,
    product,
    required,
    working_dtype,
)

from tenonrt_layer_convolution.operands import add_bias, check_bias, check_groups, operands, window_size
from tenonrt_layer_convolution.window import WindowAttributes, axes


class DeformableConvolutionAttributes(WindowAttributes, frozen=True):
    """As those of a convolution. offset_groups: into how many the channels are divided that share offsets and masks."""

    offset_groups: int = 1


class DeformableConvolutionLayer(LayerType):
    """input [N, C, H, W], weights [K, C/groups, R, S], offsets [N, G*R*S*2, *O], bias [K], mask [N, G*R*S, *O].

    Tap (r, s) of the window at an output's place reads the input at the tap's own place plus (offset down, offset
    right), between pixels bilinearly, zero outside, times the mask (ONNX DeformConv).
    """

    Attrs: ClassVar[type[Attributes]] = DeformableConvolutionAttributes
    inputs: ClassVar[tuple[str, ...]] = ("input", "weights", "offsets", "bias?", "mask?")

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        bias, mask = optional(inputs, 3), optional(inputs, 4)
        source, weights, _ = operands([*inputs[:2], bias])
        offsets = required(inputs, 3)[2]
        if source.rank != 4 or source.dtype not in FLOATS:
            raise ValueError(f"input is {source.type}, expected [N, C, H, W] of floats")
        check_groups(attrs.groups, "output channels", weights.shape[0])
        check_groups(attrs.offset_groups, "input channels", source.shape[1])
        if differ(source.shape[1], weights.shape[1] * attrs.groups):
            raise ValueError(f"input {source.type} does not fit the weights {weights.type} with groups={attrs.groups}")
        check_bias(bias, weights.shape[0])
        window = window_size(weights)
        places = [a.output(size) for a, size in zip(axes(attrs, window), source.shape[2:], strict=True)]
        taps = attrs.offset_groups * product(window)
        _check("offsets", offsets, source, (source.shape[0], 2 * taps, *places))
        if mask is not None:
            _check("mask", mask, source, (source.shape[0], taps, *places))
        return [source.like((source.shape[0], weights.shape[0], *places))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        (source, weights, offsets), bias, mask = required(arrays, 3), optional(arrays, 3), optional(arrays, 4)
        dtype = working_dtype(source.dtype)
        windows = axes(attrs, weights.shape[2:])
        batch, channels = source.shape[:2]
        places, taps = offsets.shape[2:], weights.shape[2] * weights.shape[3]
        shifts = offsets.astype(np.float64).reshape(batch, attrs.offset_groups, taps, 2, *places)
        shape = (batch, attrs.offset_groups, channels // attrs.offset_groups, taps, *places)
        read = np.empty(shape, dtype)
        image = source.astype(dtype, copy=False).reshape(*shape[:3], *source.shape[2:])
        for index, (down, right) in enumerate(_starts(windows, source.shape[2:], places)):
            y, x = down + shifts[:, :, index, 0], right + shifts[:, :, index, 1]
            read[:, :, :, index] = _bilinear(image, y, x)
        if mask is not None:
            read *= mask.astype(dtype).reshape(batch, attrs.offset_groups, 1, taps, *places)
        columns = read.reshape(batch, attrs.groups, channels // attrs.groups * taps, places[0] * places[1])
        rows = weights.astype(dtype).reshape(attrs.groups, weights.shape[0] // attrs.groups, columns.shape[2])
        output = (rows @ columns).reshape(batch, weights.shape[0], *places)
        return [add_bias(output, bias).astype(source.dtype, copy=False)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Offsets of a pixel or two, some of them to the outside."""
        return [None if t is None else draw(t, rng) * (1.5 if i == 2 else 1) for i, t in enumerate(types)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        return product(required(inputs, 2)[1].shape[1:])

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        return 2 * outputs[0].type.size * self.reduction(attrs, inputs)

    def cases(self) -> Iterable[Case]:
        def case(name: str, source: tuple[int, ...], weights: tuple[int, ...], **attrs: Any) -> Case:
            made = DeformableConvolutionAttributes(**attrs)
            places = [a.output(size) for a, size in zip(axes(made, weights[2:]), source[2:], strict=True)]
            taps = made.offset_groups * weights[2] * weights[3]
            offsets, mask = (TensorType((source[0], count * taps, *places)) for count in (2, 1))
            bias = None if name == "no bias" else TensorType(weights[:1])
            given = (TensorType(source), TensorType(weights), offsets, bias, None if name == "no mask" else mask)
            return Case(made, given, name)

        yield case("3x3", (2, 4, 7, 6), (5, 4, 3, 3), pre_padding=(1, 1), post_padding=(1, 1))
        yield case("no mask", (1, 3, 6, 6), (4, 3, 2, 2))
        yield case("no bias", (1, 2, 5, 5), (2, 2, 3, 3), stride=(2, 2))
        yield case("groups", (1, 8, 6, 7), (6, 4, 3, 2), groups=2, offset_groups=4, dilation=(1, 2))
        yield case("size one", (1, 1, 1, 1), (1, 1, 1, 1))
        yield case("empty batch", (0, 2, 4, 4), (2, 2, 3, 3))


def _check(name: str, given: TensorInfo, source: TensorInfo, shape: Sequence[Dimension]) -> None:
    wrong = given.rank != 4 or any(differ(a, b) for a, b in zip(given.shape, shape, strict=False))
    if wrong or given.dtype != source.dtype:
        raise ValueError(f"{name} are {given.type}, expected {source.dtype}[{'x'.join(map(str, shape))}]")


def _starts(
    windows: Sequence[WindowAxis], sizes: Sequence[int], places: Sequence[int]
) -> Iterable[tuple[Array, Array]]:
    """Where each tap is before its offset: rows [O, 1] and columns [1, P]."""
    begins = [
        np.arange(count) * axis.stride - axis.padding(size)[0]
        for axis, size, count in zip(windows, sizes, places, strict=True)
    ]
    for r in range(windows[0].window):
        for s in range(windows[1].window):
            yield (begins[0] + r * windows[0].dilation)[:, None], (begins[1] + s * windows[1].dilation)[None]


def _bilinear(image: Array, y: Array, x: Array) -> Array:
    """image [N, G, C, H, W] at places [N, G, O, P] to [N, G, C, O, P]; what is outside is zero."""
    height, width = image.shape[3:]
    batch, group = np.ogrid[: image.shape[0], : image.shape[1]]
    result = np.zeros((*image.shape[:3], *y.shape[2:]), image.dtype)
    if not image.size:
        return result
    # Far outside, and what is no number, is outside by any measure; as integers they would be anywhere.
    y, x = (np.clip(np.nan_to_num(v, nan=-9.0), -9.0, size + 9.0) for v, size in ((y, height), (x, width)))
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, right in ((left, 1 - (x - left)), (left + 1, x - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = np.where(inside, down * right, 0.0).astype(image.dtype)
            rows, columns = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
            pixels = image[batch[..., None, None], group[..., None, None], :, rows, columns]
            result += np.moveaxis(pixels, -1, 2) * weight[:, :, None]
    return result
