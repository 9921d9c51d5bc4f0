"""Layers that change the size of images."""

from __future__ import annotations

from math import prod

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import Inputs, bottoms, one, positive, rank, reshape, sizes


def _resized(builder: GraphBuilder, x: Tensor, height: int, width: int, mode: str, transformation: str) -> Tensor:
    if min(height, width) < 1 or max(height, width) > 1 << 20:
        raise ParseError(f"the result would be {height}x{width} of {x.type}")
    attrs = {"mode": mode, "coordinate_transformation": transformation, "axes": (2, 3), "nearest_rounding": "floor"}
    return one(builder.add("Resize", [x, None, None, np.array([height, width], np.int64)], attrs))


def interp(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Bilinear with the corners aligned (DeepLab): to a size, by a factor, or to a second bottom's size."""
    x, *like = bottoms(inputs, 1, 2)
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    before, after = node.attrs["pad_beg"], node.attrs["pad_end"]
    if min(-before, -after) < 0:
        raise ParseError(f"pad_beg is {before} and pad_end {after}; they crop, and so must not be above 0")
    if before or after:
        ends = [size + after for size in sizes(x, 2)]
        vectors = [np.array(v, np.int64) for v in ([-before, -before], ends, [2, 3])]
        x = one(builder.add("Slice", [x, *vectors]))
    height, width = sizes(x, 2)
    shrink, zoom = positive(node, "shrink_factor"), positive(node, "zoom_factor")
    if like:
        height, width = sizes(like[0], 2)
    elif node.attrs["height"] > 0 and node.attrs["width"] > 0:
        height, width = node.attrs["height"], node.attrs["width"]
    else:
        height, width = ((size - 1) // shrink + 1 for size in (height, width))
        height, width = (size + (size - 1) * (zoom - 1) for size in (height, width))
    return [_resized(builder, x, height, width, "linear", "align_corners")]


def upsample(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Repeat pixels; with a second bottom, the mask of a pooling layer, put each value back where it was (SegNet)."""
    x, *mask = bottoms(inputs, 1, 2)
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    factors = [node.attrs[f"scale_{side}"] or positive(node, "scale") for side in "hw"]
    height, width = (
        node.attrs[f"upsample_{side}"] or size * factor - int(node.attrs[f"pad_out_{side}"])
        for side, size, factor in zip("hw", sizes(x, 2), factors, strict=True)
    )
    if not mask:
        return [_resized(builder, x, height, width, "nearest", "asymmetric")]
    if mask[0].type.shape != x.type.shape:
        raise ParseError(f"the mask is {mask[0].type}, the bottom {x.type}; they must be alike")
    batch, channels = sizes(x, 0, 2)
    if min(height, width) < 1 or batch * channels * height * width > 1 << 31:
        raise ParseError(f"the result would be {height}x{width} of {x.type}")
    flat = (batch, channels, prod(sizes(x, 2)))
    zeros = one(builder.add("Fill", [np.array([batch, channels, height * width], np.int64)]))
    places = one(builder.add("Cast", [reshape(builder, mask[0], flat)], {"to": "int64"}))
    spread = one(builder.add("ScatterElements", [zeros, places, reshape(builder, x, flat)], {"axis": 2}))
    return [reshape(builder, spread, (batch, channels, height, width))]
