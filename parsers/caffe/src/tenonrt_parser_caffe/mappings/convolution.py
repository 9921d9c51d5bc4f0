"""Convolution, deconvolution and inner product: layers of weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import Inputs, axis, bottoms, filler, merged, positive, rank, reshape, sizes


def convolution(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Convolution over every axis after the channels; several bottoms share the weights."""
    return [_convolution(builder, node, x) for x in bottoms(inputs, 1, -1)]


def depthwise(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A convolution with a group for each channel."""
    (x,) = bottoms(inputs, 1)
    return [_convolution(builder, node, x, _channels(node, x))]


def deconvolution(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The transposed convolution: weights [C, K / groups, kh, kw], padding crops the result."""
    found: list[Tensor] = []
    for x in bottoms(inputs, 1, -1):
        outputs, groups = positive(node, "num_output"), positive(node, "group")
        channels = _channels(node, x)
        _check_groups(outputs, channels, groups)
        window, attrs = _geometry(node, rank(x) - 2)
        operands = _weights(node, (channels, outputs // groups, *window), outputs)
        found += builder.add("Deconvolution", [x, *operands], {**attrs, "groups": groups})
    return found


MAX_WINDOW = 1024  # elements of a window that is laid out: a slice is made for each


def im2col(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The elements under each place of a window as channels: [N, C * window, ...], a convolution without its sums."""
    (x,) = bottoms(inputs, 1)
    channels, (window, attrs) = _channels(node, x), _geometry(node, rank(x) - 2)
    if prod(window) > MAX_WINDOW:
        raise ParseError(f"kernel_size is {window}; at most {MAX_WINDOW} elements are laid out")
    padding, steps, axes = attrs["pre_padding"], attrs["stride"], range(2, rank(x))
    spans = [d * (k - 1) for d, k in zip(attrs["dilation"], window, strict=True)]
    counts = [(size + 2 * p - span - 1) // s + 1
              for size, p, span, s in zip(sizes(x, 2), padding, spans, steps, strict=True)]  # fmt: skip
    if min(counts) < 1:
        raise ParseError(f"windows of {window} do not fit into the bottom, {x.type}")
    if any(padding):
        (x,) = builder.add("Padding", [x, np.array([0, 0, *padding] * 2, np.int64)])
    parts: list[Tensor] = []
    for place in itertools.product(*map(range, window)):
        begins = [k * d for k, d in zip(place, attrs["dilation"], strict=True)]
        ends = [b + (n - 1) * s + 1 for b, n, s in zip(begins, counts, steps, strict=True)]
        (part,) = builder.add("Slice", [x, *(np.array(v, np.int64) for v in (begins, ends, list(axes), steps))])
        parts += builder.add("Unsqueeze", [part], {"axes": (2,)})
    (joined,) = builder.add("Concatenation", parts, {"axis": 2})
    return [reshape(builder, joined, (x.type.shape[0], channels * prod(window), *counts))]


def _convolution(builder: GraphBuilder, node: SourceNode, x: Tensor, groups: int | None = None) -> Tensor:
    outputs, groups = positive(node, "num_output"), groups or positive(node, "group")
    channels = _channels(node, x)
    _check_groups(outputs, channels, groups)
    window, attrs = _geometry(node, rank(x) - 2)
    operands = _weights(node, (outputs, channels // groups, *window), outputs)
    return builder.add("Convolution", [x, *operands], {**attrs, "groups": groups})[0]


def _channels(node: SourceNode, x: Tensor) -> int:
    if axis(node, x) != 1 or rank(x) < 3:
        raise ParseError(
            f"axis is {node.attrs['axis']} and the bottom {x.type}; channels must be axis 1, before others"
        )
    return sizes(x, 1, 2)[0]


def _check_groups(outputs: int, channels: int, groups: int) -> None:
    if outputs % groups or channels % groups:
        raise ParseError(f"group is {groups}; it must divide the {channels} channels and num_output {outputs}")


def _weights(node: SourceNode, shape: tuple[int, ...], outputs: int) -> list[Any]:
    blobs = node.attrs["blobs"]
    weights = blobs.take(0, shape, filler(node, "weight_filler"), "msra")
    if not node.attrs["bias_term"]:
        return [weights, None]
    return [weights, blobs.take(1, (outputs,), filler(node, "bias_filler"), "constant")]


def _geometry(node: SourceNode, count: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """The window, and stride, dilation and padding as attributes."""
    window = _per_axis(node, "kernel_size", "kernel", count, None)
    padding = _per_axis(node, "pad", "pad", count, 0)
    attrs = {
        "stride": _per_axis(node, "stride", "stride", count, 1),
        "dilation": _per_axis(node, "dilation", None, count, 1),
        "pre_padding": padding,
        "post_padding": padding,
    }
    if min((*window, *attrs["stride"], *attrs["dilation"])) < 1:
        raise ParseError("kernel_size, stride and dilation must be at least 1")
    return window, attrs


def _per_axis(node: SourceNode, name: str, stem: str | None, count: int, default: int | None) -> tuple[int, ...]:
    """One value per spatial axis from a repeated field, or from its _h and _w forms."""
    values: tuple[int, ...] = node.attrs[name]
    apart = tuple(node.attrs[f"{stem}_{side}"] for side in "hw") if stem else (None, None)
    if any(apart):  # a zero is the default of the padding, and no window or stride
        if values or count != 2:
            raise ParseError(f"{stem}_h and {stem}_w exclude {name}, and are for two axes")
        if default is None and None in apart:
            raise ParseError(f"{stem}_h and {stem}_w must both be given")
        return tuple(int(v or default or 0) for v in apart)
    if not values and default is not None:
        return (default,) * count
    if len(values) not in {1, count}:
        raise ParseError(f"{name} has {len(values)} values; the bottom has {count} spatial axes")
    return values * count if len(values) == 1 else values


def inner_product(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The axes from ``axis`` on make one vector, which is multiplied with the weights."""
    found: list[Tensor] = []
    for x in bottoms(inputs, 1, -1):
        start, outputs = axis(node, x), positive(node, "num_output")
        length = merged(sizes(x, start))
        assert isinstance(length, int)
        blobs, transposed = node.attrs["blobs"], node.attrs["transpose"]
        shape = (length, outputs) if transposed else (outputs, length)
        weights = blobs.take(0, shape, filler(node, "weight_filler"), "msra")
        bias = None
        if node.attrs["bias_term"]:
            bias = blobs.take(1, (outputs,), filler(node, "bias_filler"), "constant")
        if rank(x) == start + 1:
            rows = x
        elif start == 1:
            (rows,) = builder.add("Flatten", [x], {"axis": 1})
        else:
            rows = reshape(builder, x, (*x.type.shape[:start], length))
        found += builder.add("FullyConnected", [rows, weights.T.copy() if transposed else weights, bias])
    return found


def embed(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> Sequence[Tensor]:
    """A row of the weights for each number of the bottom."""
    (x,) = bottoms(inputs, 1)
    rows, outputs = positive(node, "input_dim"), positive(node, "num_output")
    blobs = node.attrs["blobs"]
    weights = blobs.take(0, (rows, outputs), filler(node, "weight_filler"), "msra")
    (indices,) = builder.add("Cast", [x], {"to": "int64"})
    (found,) = builder.add("Gather", [weights, indices], {"axis": 0})
    if node.attrs["bias_term"]:
        bias = blobs.take(1, (outputs,), filler(node, "bias_filler"), "constant")
        (found,) = builder.add("Elementwise", [found, bias], {"operation": "sum"})
    return [found]
