"""Normalization by learned, by computed and by given statistics; softmax."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import (
    Inputs,
    affine,
    axis,
    binary,
    bottom,
    bottoms,
    filler,
    one,
    rank,
    scalar,
    sizes,
)


def batch_norm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Mean and variance are sums that blob 2 divides; NVCaffe's form has scale and bias in blobs 3 and 4."""
    x = bottom(inputs)
    if node.attrs["use_global_stats"] is False:
        raise ParseError("use_global_stats is false: statistics of the batch at hand are not computed")
    if rank(x) < 2:
        raise ParseError(f"takes [N, C, ...]; the bottom is {x.type}")
    channels, blobs = sizes(x, 1, 2), node.attrs["blobs"]
    mean = blobs.take(0, channels, {"type": "gaussian", "std": 0.1}, "constant")
    variance = blobs.take(1, channels, {"type": "uniform", "min": 0.9, "max": 1.1}, "constant")
    factor = blobs.take(2, (1,), {"type": "constant", "value": 1.0}, "constant")
    scale, bias = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    epsilon = node.attrs["eps"]
    fused = node.attrs["scale_bias"] or node.attrs["scale_filler"] or node.attrs["bias_filler"]
    if len(blobs) == 5 or fused:
        scale = blobs.take(3, channels, filler(node, "scale_filler") or {"type": "constant", "value": 1.0}, "constant")
        bias = blobs.take(4, channels, filler(node, "bias_filler"), "constant")
        epsilon = max(epsilon, 1e-5)
    # NVCaffe's five blobs hold averages, Caffe's three sums.
    divisor = np.float32(1) if len(blobs) == 5 else factor[0]
    whole = np.float32(0) if divisor == 0 else np.float32(1) / divisor
    # The core folds this into a convolution before it.
    statistics: list[Array] = [scale, bias, mean * whole, variance * whole]
    return [one(builder.add("BatchNormalization", [x, *statistics], {"epsilon": epsilon}))]


def bn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Of the branches that train statistics in one layer: scale and shift (SegNet), and mean and variance (PSPNet)."""
    x = bottom(inputs)
    if rank(x) < 2:
        raise ParseError(f"takes [N, C, ...]; the bottom is {x.type}")
    (channels,), blobs = sizes(x, 1, 2), node.attrs["blobs"]
    shape = (1, channels, 1, 1) if len(blobs) and blobs[0].ndim == 4 else (channels,)
    ones = {"type": "constant", "value": 1.0}
    factor = filler(node, "slope_filler") or filler(node, "scale_filler") or ones
    shift = filler(node, "bias_filler") or filler(node, "shift_filler")
    parameters = [blobs.take(0, shape, factor, "constant"), blobs.take(1, shape, shift, "constant")]
    if node.attrs["bn_mode"] == "INFERENCE" or len(blobs) == 2:
        scale, bias = (values.reshape(-1) for values in parameters)
        return [one(builder.add("Scale", [x, bias, scale], {"mode": "channel", "axis": 1}))]
    parameters += [blobs.take(2, shape, None, "constant"), blobs.take(3, shape, ones, "constant")]
    statistics = [values.reshape(-1) for values in parameters]
    return [one(builder.add("BatchNormalization", [x, *statistics], {"epsilon": node.attrs["eps"]}))]


def mvn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """(x - mean) / (sqrt(variance) + eps) over each image's channel, or over the image."""
    x = bottom(inputs)
    if rank(x) < 2:
        raise ParseError(f"takes [N, C, ...]; the bottom is {x.type}")
    axes = tuple(range(1 if node.attrs["across_channels"] else 2, rank(x)))
    if not axes:
        axes = (1,) if node.attrs["across_channels"] else ()
    if not axes:
        raise ParseError(f"normalizes the axes after the channels; the bottom is {x.type}")
    centred = binary(builder, "sub", x, one(builder.add("Reduce", [x], {"operation": "mean", "axes": axes})))
    if not node.attrs["normalize_variance"]:
        return [centred]
    squares = binary(builder, "prod", centred, centred)
    variance = one(builder.add("Reduce", [squares], {"operation": "mean", "axes": axes}))
    deviation = one(builder.add("Unary", [variance], {"operation": "sqrt"}))
    return [binary(builder, "div", centred, affine(builder, deviation, shift=node.attrs["eps"]))]


def normalize(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """scale * x / sqrt(sum x^2 + eps), the sum over the channels of a pixel or over the image (SSD)."""
    x = bottom(inputs)
    if rank(x) < 2:
        raise ParseError(f"takes [N, C, ...]; the bottom is {x.type}")
    axes = tuple(range(1, rank(x))) if node.attrs["across_spatial"] else (1,)
    total = one(builder.add("Reduce", [x], {"operation": "sum_square", "axes": axes}))
    unit = binary(builder, "prod", x, affine(builder, total, shift=node.attrs["eps"], power=-0.5))
    given = filler(node, "scale_filler") or {"type": "constant", "value": 1.0}
    if node.attrs["channel_shared"]:
        scale = node.attrs["blobs"].take(0, (), given, "constant")
        return [one(builder.add("Scale", [unit, None, scale.reshape(1)], {"mode": "uniform"}))]
    scale = node.attrs["blobs"].take(0, sizes(x, 1, 2), given, "constant")
    return [one(builder.add("Scale", [unit, None, scale], {"mode": "channel", "axis": 1}))]


def softmax(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """exp(x) over its sum along an axis."""
    x = bottom(inputs)
    return [one(builder.add("Softmax", [x], {"axis": axis(node, x)}))]


def softmax_with_loss(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Deployed, the loss is the softmax it is computed from; the labels and a second top are no part of it."""
    return softmax(builder, node, bottoms(inputs, 1, -1)[:1]) * max(len(node.outputs), 1)


def sigmoid_with_loss(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Deployed, the loss is the sigmoid it is computed from."""
    (x, *_) = bottoms(inputs, 1, -1)
    return [one(builder.add("Activation", [x], {"function": "sigmoid"}))] * max(len(node.outputs), 1)


def argmax(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The top_k largest along an axis, or of each item; of equal ones the last comes first."""
    x, count = bottom(inputs), int(node.attrs["top_k"])
    if node.attrs["axis"] is None:
        flat = one(builder.add("Flatten", [x], {"axis": 1}))
        values, indices = _largest(builder, flat, 1, count)
        parts = [indices, values] if node.attrs["out_max_val"] else [indices]
        stacked = [one(builder.add("Unsqueeze", [part], {"axes": (1,)})) for part in parts]
        joined = stacked[0] if len(stacked) == 1 else one(builder.add("Concatenation", stacked, {"axis": 1}))
        behind = tuple(range(3, rank(x)))
        return [one(builder.add("Unsqueeze", [joined], {"axes": behind})) if behind else joined]
    values, indices = _largest(builder, x, axis(node, x), count)
    return [values if node.attrs["out_max_val"] else indices]


def _largest(builder: GraphBuilder, x: Tensor, along: int, count: int) -> tuple[Tensor, Tensor]:
    """Values and, as floats, indices."""
    length = sizes(x, along, along + 1)[0]
    if not 1 <= count <= length:
        raise ParseError(f"top_k is {count}; there are {length} values")
    if count == 1:
        values = one(builder.add("Reduce", [x], {"operation": "max", "axes": (along,)}))
        places = one(builder.add("ArgReduce", [x], {"operation": "max", "axis": along, "select_last": True}))
        return values, one(builder.add("Cast", [places], {"to": "float32"}))
    # TopK puts the first of equal elements first: it is shown them backwards.
    ends = [np.array([v], np.int64) for v in (-1, -(2**31), along, -1)]
    backwards = one(builder.add("Slice", [x, *ends]))
    values, indices = builder.add("TopK", [backwards, np.array([count], np.int64)], {"axis": along})
    found = one(builder.add("Cast", [indices], {"to": "float32"}))
    return values, binary(builder, "sub", scalar(length - 1), found)
