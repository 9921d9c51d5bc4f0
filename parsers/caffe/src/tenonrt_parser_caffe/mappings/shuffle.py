"""Layers that move elements: joining, cutting, reshaping, and those that do nothing once trained."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import Dimension, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_caffe.mappings.operands import (
    Inputs,
    affine,
    axis,
    bottom,
    bottoms,
    merged,
    one,
    positive,
    rank,
    reshape,
    sizes,
)

_LEGACY = {"axis": 1, "concat_dim": 1, "slice_dim": 1}


def concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Join the bottoms along an axis."""
    parts = bottoms(inputs, 1, -1)
    along = _axis(node, parts[0], "concat_dim")
    return parts if len(parts) == 1 else [one(builder.add("Concatenation", parts, {"axis": along}))]


def slice_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Cut at the given points, or into equal parts."""
    x, count = bottom(inputs), len(node.outputs)
    along = _axis(node, x, "slice_dim")
    length, points = sizes(x, along, along + 1)[0], node.attrs["slice_point"]
    if points:
        edges = [0, *points, length]
        if len(points) != count - 1 or any(a >= b for a, b in itertools.pairwise(edges)):
            raise ParseError(f"slice_point is {points}; {count} tops of {length} need {count - 1} that rise")
        lengths = [b - a for a, b in itertools.pairwise(edges)]
    elif not count or length % count:
        raise ParseError(f"cannot cut {length} elements into {count} equal tops")
    else:
        lengths = [length // count] * count
    if count == 1:
        return [x]
    return list(builder.add("Split", [x, np.array(lengths, np.int64)], {"axis": along}))


def _axis(node: SourceNode, x: Tensor, legacy: str) -> int:
    """The axis, in its old spelling if that is what was given: both have the default 1."""
    old = node.attrs[legacy]
    return axis(node, x, legacy) if old != 1 and node.attrs["axis"] == 1 else axis(node, x)


def same(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Dropout and Split: every top is the bottom."""
    return [bottom(inputs)] * max(len(node.outputs), 1)


def silence(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Its bottoms count as read, and are no outputs."""
    return []


def flatten(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Merge the axes from ``axis`` to ``end_axis``."""
    x = bottom(inputs)
    start, end = axis(node, x), axis(node, x, "end_axis") + 1
    if end <= start:
        raise ParseError(f"axis {start} comes after end_axis {end - 1}")
    if start == 1 and end == rank(x):
        return [one(builder.add("Flatten", [x], {"axis": 1}))]
    shape = x.type.shape
    return [reshape(builder, x, (*shape[:start], merged(shape[start:end]), *shape[end:]))]


def reshape_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Replace num_axes axes from ``axis`` on: 0 copies the size at its place, -1 is what is left."""
    x, wanted = bottom(inputs), (node.attrs["shape"] or {"dim": ()})["dim"]
    start, count = axis(node, x, extra=1), int(node.attrs["num_axes"])
    end = rank(x) if count == -1 else start + count
    if not start <= end <= rank(x) or count < -1:
        raise ParseError(f"axis {start} and num_axes {count} reach past the bottom, {x.type}")
    if any(size < -1 for size in wanted) or wanted.count(-1) > 1:
        raise ParseError(f"shape is {wanted}; sizes are 0, positive, and -1 at most once")
    target: list[Dimension] = list(x.type.shape[:start])
    for place, size in enumerate(wanted, start):
        if size == 0 and place >= rank(x):
            raise ParseError(f"shape is {wanted}: a 0 copies axis {place}, which {x.type} lacks")
        target.append(x.type.shape[place] if size == 0 else size)
    target += x.type.shape[end:]
    if -1 in wanted:
        target[start + wanted.index(-1)] = _left(x, target)
    elif merged(target) != merged(x.type.shape):
        raise ParseError(f"shape is {wanted}, which makes {merged(target)} elements of {x.type}")
    return [reshape(builder, x, target)]


def _left(x: Tensor, target: Sequence[Dimension]) -> Dimension:
    """What a -1 stands for."""
    have, rest = list(x.type.shape), [size for size in target if size != -1 or not isinstance(size, int)]
    for size in list(rest):
        if size in have:  # also sizes that are not fixed
            have.remove(size)
            rest.remove(size)
    total, divisor = merged(have), merged(rest)
    if not isinstance(divisor, int) or divisor == 0:
        raise ParseError(f"cannot tell what -1 stands for in a shape made of {x.type}")
    if isinstance(total, int) and total % divisor:
        raise ParseError(f"the elements of {x.type} do not divide into {divisor}")
    return total // divisor


def permute(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Axes that are not named follow in their order."""
    x, order = bottom(inputs), node.attrs["order"]
    if len(set(order)) != len(order) or any(place >= rank(x) for place in order):
        raise ParseError(f"order is {order}; it must name axes of {x.type} once")
    whole = (*order, *(place for place in range(rank(x)) if place not in order))
    return [one(builder.add("Transpose", [x], {"permutation": whole}))]


def crop(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The first bottom, cut to the second's size on the axes from ``axis`` on."""
    x, like = bottoms(inputs, 2)
    start, offsets = axis(node, x), node.attrs["offset"]
    if rank(like) != rank(x):
        raise ParseError(f"bottoms are {x.type} and {like.type}; they need as many axes")
    places = list(range(start, rank(x)))
    if len(offsets) not in {0, 1, len(places)}:
        raise ParseError(f"has {len(offsets)} offsets for {len(places)} axes")
    begins = list(offsets) * (len(places) if len(offsets) == 1 else 1) or [0] * len(places)
    ends = [begin + size for begin, size in zip(begins, sizes(like, start), strict=True)]
    if any(end > size for end, size in zip(ends, sizes(x, start), strict=True)):
        raise ParseError(f"cannot cut {like.type} out of {x.type} at {begins}")
    vectors = [np.array(values, np.int64) for values in (begins, ends, places)]
    return [one(builder.add("Slice", [x, *vectors]))]


def tile(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Repeat along an axis."""
    x, along, times = bottom(inputs), axis(node, bottom(inputs)), positive(node, "tiles")
    repeats = np.ones(rank(x), np.int64)
    repeats[along] = times
    return [one(builder.add("Tile", [x, repeats]))]


_REDUCTIONS = {"SUM": "sum", "ASUM": "l1", "SUMSQ": "sum_square", "MEAN": "mean"}


def reduction(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """All axes from ``axis`` on are summed up and gone; the result is multiplied by coeff."""
    x = bottom(inputs)
    axes = tuple(range(axis(node, x), rank(x)))
    attrs = {"operation": _REDUCTIONS[node.attrs["operation"]], "axes": axes, "keep_dims": False}
    return [affine(builder, one(builder.add("Reduce", [x], attrs)), scale=node.attrs["coeff"])]


def batch_reindex(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Items of the first bottom in the order that the second says."""
    x, order = bottoms(inputs, 2)
    indices = one(builder.add("Cast", [order], {"to": "int64"}))
    return [one(builder.add("Gather", [x, indices], {"axis": 0}))]


def parameter(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """A learned blob as a tensor."""
    bottoms(inputs, 0)
    shape = (node.attrs["shape"] or {"dim": ()})["dim"]
    if any(size < 0 for size in shape):
        raise ParseError(f"shape is {shape}")
    return [builder.constant(node.attrs["blobs"].take(0, shape, None, "gaussian"), node.name)]


def shuffle_channel(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Channels seen as [group, C / group] are transposed (ShuffleNet)."""
    x, groups = bottom(inputs), positive(node, "group")
    channels = sizes(x, 1, 2)[0]
    if channels % groups:
        raise ParseError(f"group is {groups}, which does not divide {channels} channels")
    batch, _, *rest = x.type.shape
    apart = reshape(builder, x, (batch, groups, channels // groups, *rest))
    order = (0, 2, 1, *range(3, rank(x) + 1))
    return [reshape(builder, one(builder.add("Transpose", [apart], {"permutation": order})), x.type.shape)]


def reorganize(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Space to depth (YOLO's reorg) as darknet does it, whose result is seen in other sizes than it is computed in.

    The bottom [C, H, W] is taken for [C / s^2, H s, W s], each s x s pixels become s^2 channels, [C, H, W], and these
    are taken for [C s^2, H / s, W / s]. ``reverse`` goes the other way.
    """
    x, stride = bottom(inputs), positive(node, "stride")
    if rank(x) != 4:
        raise ParseError(f"takes [N, C, H, W]; the bottom is {x.type}")
    batch, (channels, height, width) = x.type.shape[0], sizes(x, 1)
    back = bool(node.attrs["reverse"])
    if channels % stride**2 or (not back and (height % stride or width % stride)):
        raise ParseError(f"stride is {stride}, which does not divide the bottom, {x.type}")
    few = channels // stride**2
    if back:  # [s, s, few, H, W] -> [few, H, s, W, s]
        apart = reshape(builder, x, (batch, stride, stride, few, height, width))
        moved = one(builder.add("Transpose", [apart], {"permutation": (0, 3, 4, 1, 5, 2)}))
        return [reshape(builder, moved, (batch, few, height * stride, width * stride))]
    apart = reshape(builder, x, (batch, few, height, stride, width, stride))
    moved = one(builder.add("Transpose", [apart], {"permutation": (0, 3, 5, 1, 2, 4)}))
    return [reshape(builder, moved, (batch, channels * stride**2, height // stride, width // stride))]


def reverse(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The elements of an axis backwards."""
    x = bottom(inputs)
    vectors = [np.array([v], np.int64) for v in (-1, -(2**31), axis(node, x), -1)]
    return [one(builder.add("Slice", [x, *vectors]))]


def filter_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Of every bottom but the last the items for which the last one, a number for each, is not zero."""
    *given, selector = bottoms(inputs, 2, -1)
    if any(x.type.shape[:1] != selector.type.shape[:1] for x in given) or rank(selector) < 1:
        raise ParseError(f"bottoms are {', '.join(str(x.type) for x in given)} for the selector {selector.type}")
    flat = reshape(builder, selector, selector.type.shape[:1])
    found = one(builder.add("Squeeze", [one(builder.add("NonZero", [flat]))], {"axes": (0,)}))
    return [one(builder.add("Gather", [x, found], {"axis": 0})) for x in given]
