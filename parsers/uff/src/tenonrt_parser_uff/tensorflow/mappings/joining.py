"""Operations that join, cut and repeat tensors along axes."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    MAXIMUM,
    Inputs,
    axis_of,
    check_count,
    concatenate,
    given,
    integer,
    integers,
    pad,
    pairs,
    shape_operand,
    single,
    stack,
    text,
)
from tenonrt_parser_uff.slicing import Masks, strided_slice
from tenonrt_parser_uff.tensorflow.mappings.arguments import known, scalar
from tenonrt_parser_uff.tensorflow.mappings.pointwise import vector


def concat(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ConcatV2, whose last input is the axis, and Concat, whose first is."""
    if len(inputs) < 2:
        raise ParseError(f"has {len(inputs)} inputs, expected tensors and an axis")
    tensors = [given(inputs, i, "value") for i in range(len(inputs))]
    axis = tensors.pop(0 if node.type == "Concat" else -1)
    return [concatenate(builder, tensors, axis_of(scalar(axis, "the axis"), tensors[0].type.rank))]


def pack(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Tensors of one shape along a new axis."""
    return [stack(builder, [given(inputs, i, "value") for i in range(max(len(inputs), 1))], integer(node, "axis", 0))]


def unpack(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The slices along an axis, without it."""
    check_count(inputs, 1)
    x = given(inputs, 0, "value")
    axis, count = axis_of(integer(node, "axis", 0), x.type.rank), integer(node, "num")
    if x.type.shape[axis] != count or not 0 < count <= 4096:
        raise ParseError(f"'num' is {count} for axis {axis} of {x.type}")
    parts = builder.add("Split", [x], {"axis": axis, "parts": count})
    return [single(builder, "Squeeze", [part], {"axes": (axis,)}) for part in parts]


def split(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Split: an axis and the tensor that is cut into equal parts."""
    check_count(inputs, 2)
    x, count = given(inputs, 1, "value"), integer(node, "num_split")
    axis = axis_of(scalar(given(inputs, 0, "axis"), "the axis"), x.type.rank)
    size = x.type.shape[axis]
    if not 0 < count <= 4096 or (isinstance(size, int) and size % count):
        raise ParseError(f"'num_split' is {count} for axis {axis} of {x.type}")
    return list(builder.add("Split", [x], {"axis": axis, "parts": count}))


def split_v(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """SplitV: the tensor, the sizes of its parts, of which one may be -1, and the axis."""
    check_count(inputs, 3)
    x, sizes = given(inputs, 0, "value"), integers(given(inputs, 1, "sizes"), "the sizes")
    axis = axis_of(scalar(given(inputs, 2, "axis"), "the axis"), x.type.rank)
    if -1 in sizes:
        size = x.type.shape[axis]
        if not isinstance(size, int):
            raise ParseError(f"one of the sizes {sizes} is -1, but axis {axis} of {x.type} is not known")
        sizes[sizes.index(-1)] = size - sum(sizes) - 1
    if any(not 0 <= size <= MAXIMUM for size in sizes):
        raise ParseError(f"the sizes {sizes[:8]} do not cut axis {axis} of {x.type}")
    return list(builder.add("Split", [x, vector(sizes)], {"axis": axis}))


def slice_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Slice: begin and size for every axis; a size of -1 is what is left."""
    check_count(inputs, 3)
    x, begin, size = (given(inputs, i, what) for i, what in enumerate(("input", "begin", "size")))
    axes = vector(range(x.type.rank))
    if known(begin) and known(size):
        starts, sizes = integers(begin, "begin"), integers(size, "size")
        if len(starts) != x.type.rank or len(sizes) != x.type.rank:
            raise ParseError(f"begin and size have {len(starts)} and {len(sizes)} numbers for {x.type}")
        if any(not 0 <= s <= MAXIMUM for s in starts) or any(not -1 <= s <= MAXIMUM for s in sizes):
            raise ParseError(f"begin {starts[:8]} and size {sizes[:8]} must not be negative, but for a size of -1")
        ends = [MAXIMUM if n == -1 else min(s + n, MAXIMUM) for s, n in zip(starts, sizes, strict=True)]
        return [single(builder, "Slice", [x, vector(starts), vector(ends), axes])]
    first, count = shape_operand(builder, begin, "begin"), shape_operand(builder, size, "size")
    if isinstance(count, np.ndarray) and (count < 0).any():
        raise ParseError("begin must be known when the file is read, as a size is -1")
    end = single(builder, "Elementwise", [first, count], {"operation": "sum"})
    return [single(builder, "Slice", [x, first, end, axes])]


def strided_slice_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """x[begin:end:strides] with masks for ranges without an end, single elements, ``...`` and new axes."""
    check_count(inputs, 4)
    x, begin, end, strides = (given(inputs, i, what) for i, what in enumerate(("input", "begin", "end", "strides")))
    names = ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask", "new_axis_mask")
    return [strided_slice(builder, x, begin, end, strides, Masks(*(integer(node, name, 0) for name in names)))]


def pad_(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Pad with zeros, PadV2 with a value."""
    check_count(inputs, 2, 3)
    x = given(inputs, 0, "input")
    value = given(inputs, 2, "value") if len(inputs) > 2 else None
    return [pad(builder, x, pairs(given(inputs, 1, "paddings"), "the paddings"), value=value)]


def mirror_pad(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """MirrorPad: REFLECT leaves out the edge, SYMMETRIC repeats it."""
    check_count(inputs, 2)
    x, sides = given(inputs, 0, "input"), pairs(given(inputs, 1, "paddings"), "the paddings")
    mode = text(node, "mode")
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise ParseError(f"'mode' is {mode!r:.40}, expected REFLECT or SYMMETRIC")
    if any(side < 0 for pair in sides for side in pair):
        raise ParseError("the paddings must not be negative")
    if mode == "REFLECT":
        return [pad(builder, x, sides, mode="reflect")]
    if len(sides) != x.type.rank:
        raise ParseError(f"paddings are given for {len(sides)} axes of {x.type}")
    for axis, (before, after) in enumerate(sides):
        x = _symmetric(builder, x, axis, before, after)
    return [x]


def _symmetric(builder: GraphBuilder, x: Tensor, axis: int, before: int, after: int) -> Tensor:
    """The first elements backwards, all, the last ones backwards."""
    size = x.type.shape[axis]
    if isinstance(size, int) and max(before, after) > size:
        raise ParseError(f"axis {axis} of {x.type} is padded by {before} and {after}, more than it has")
    parts = [x]
    if before:
        first = single(builder, "Slice", [x, vector([0]), vector([before]), vector([axis])])
        parts.insert(0, reverse(builder, first, [axis]))
    if after:
        last = single(builder, "Slice", [x, vector([-after]), vector([MAXIMUM]), vector([axis])])
        parts.append(reverse(builder, last, [axis]))
    return concatenate(builder, parts, axis) if len(parts) > 1 else x


def reverse(builder: GraphBuilder, x: Tensor, axes: list[int]) -> Tensor:
    """Backwards along some axes."""
    ends = vector([-MAXIMUM] * len(axes))
    return single(builder, "Slice", [x, vector([-1] * len(axes)), ends, vector(axes), vector([-1] * len(axes))])


def reverse_v2(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """ReverseV2."""
    check_count(inputs, 2)
    x = given(inputs, 0, "tensor")
    axes = [axis_of(axis, x.type.rank) for axis in integers(given(inputs, 1, "axis"), "the axes")]
    return [reverse(builder, x, sorted(set(axes))) if axes else x]


def reverse_sequence(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Each sequence backwards as far as it goes."""
    check_count(inputs, 2)
    x, lengths = given(inputs, 0, "input"), given(inputs, 1, "lengths")
    attrs = {"time_axis": integer(node, "seq_dim"), "batch_axis": integer(node, "batch_dim", 0)}
    operand = shape_operand(builder, lengths, "the lengths")
    return [single(builder, "ReverseSequence", [x, operand], attrs)]


def tile(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Repeated along every axis."""
    check_count(inputs, 2)
    repeats = shape_operand(builder, given(inputs, 1, "multiples"), "the multiples")
    return [single(builder, "Tile", [given(inputs, 0, "input"), repeats])]


def gather(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Gather and GatherV2, whose third input is the axis; batch axes must be those before it."""
    check_count(inputs, 2, 3)
    params, indices = given(inputs, 0, "params"), given(inputs, 1, "indices")
    axis = scalar(given(inputs, 2, "axis"), "the axis") if len(inputs) > 2 else 0
    axis, batch = axis_of(axis, params.type.rank), integer(node, "batch_dims", 0)
    if batch == 0:
        return [single(builder, "Gather", [params, indices], {"axis": axis})]
    batch += indices.type.rank if batch < 0 else 0
    if batch != axis or not 0 < batch <= indices.type.rank:
        raise ParseError(f"'batch_dims' is {batch} and the axis {axis}; they must be equal")
    columns = single(builder, "Unsqueeze", [indices], {"axes": (indices.type.rank,)})
    return [single(builder, "GatherND", [params, columns], {"batch_dims": batch})]


def gather_nd(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Slices by vectors of indices."""
    check_count(inputs, 2)
    operands = [given(inputs, 0, "params"), given(inputs, 1, "indices")]
    return [single(builder, "GatherND", operands, {"batch_dims": integer(node, "batch_dims", 0)})]


def one_hot(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Indices, depth, and the values of hits and of the rest. Indices out of range hit nothing."""
    check_count(inputs, 4)
    indices, depth, hit, rest = (given(inputs, i, what) for i, what in enumerate(("indices", "depth", "on", "off")))
    size, axis = scalar(depth, "the depth"), integer(node, "axis", -1)
    if not 0 <= size <= 2**24:
        raise ParseError(f"the depth is {size}, expected 0 to 2**24")
    axis = axis_of(axis, indices.type.rank + 1)
    column = single(builder, "Unsqueeze", [indices], {"axes": (axis,)})
    numbers = np.arange(size, dtype=indices.type.numpy).reshape(-1, *[1] * (indices.type.rank - axis))
    found: Array | Tensor = single(builder, "Elementwise", [column, numbers], {"operation": "equal"})
    return [single(builder, "Select", [found, hit, rest])]
