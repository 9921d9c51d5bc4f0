"""SpaceToBatch and BatchToSpace, which older graphs put around dilated convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    check_count,
    given,
    integer,
    integers,
    pad,
    pairs,
    reshape,
    single,
    transpose,
)
from tenonrt_parser_uff.tensorflow.mappings.pointwise import vector

Pairs = Sequence[tuple[int, int]]


def _arguments(node: SourceNode, inputs: Inputs) -> tuple[Tensor, list[int], Pairs]:
    """The tensor, the sizes of blocks along the axes behind the batch, and pads or crops of these axes."""
    if node.type.endswith("ND"):
        check_count(inputs, 3)
        blocks = integers(given(inputs, 1, "block shape"), "the block shape")
    else:
        check_count(inputs, 2)
        blocks = [integer(node, "block_size")] * 2
    x, sides = given(inputs, 0, "input"), pairs(given(inputs, len(inputs) - 1, "sides"), "paddings or crops")
    if len(sides) != len(blocks) or x.type.rank <= len(blocks) or any(not 0 < b < 2**15 for b in blocks):
        raise ParseError(f"blocks {blocks[:8]} with {len(sides)} pairs do not fit {x.type}")
    if any(side < 0 for pair in sides for side in pair):
        raise ParseError("paddings and crops must not be negative")
    if not all(isinstance(size, int) for size in x.type.shape[1:]):
        raise ParseError(f"the input is {x.type}; sizes other than the batch must be known")
    return x, blocks, sides


def to_batch(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Each position within a block becomes an image of its own; blocks vary before the batch."""
    x, blocks, sides = _arguments(node, inputs)
    count, rank = len(blocks), x.type.rank
    padded = pad(builder, x, [(0, 0), *sides, *[(0, 0)] * (rank - count - 1)])
    sizes = [int(size) for size in padded.type.shape[1:] if isinstance(size, int)]
    if any(size % block for size, block in zip(sizes, blocks, strict=False)):
        raise ParseError(f"blocks {blocks} do not divide the padded input {padded.type}")
    outer = [size // block for size, block in zip(sizes, blocks, strict=False)]
    pairs_ = [part for pair in zip(outer, blocks, strict=True) for part in pair]
    cut = reshape(builder, padded, (-1, *pairs_, *sizes[count:]))
    inner = range(2, 2 * count + 1, 2)
    moved = transpose(builder, cut, (*inner, 0, *range(1, 2 * count, 2), *range(2 * count + 1, cut.type.rank)))
    return [reshape(builder, moved, (-1, *outer, *sizes[count:]))]


def from_batch(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The reverse; then the crops are cut off."""
    x, blocks, sides = _arguments(node, inputs)
    count, sizes = len(blocks), [int(size) for size in x.type.shape[1:] if isinstance(size, int)]
    cut = reshape(builder, x, (*blocks, -1, *sizes))
    order = [count] + [axis for i in range(count) for axis in (count + 1 + i, i)]
    moved = transpose(builder, cut, (*order, *range(2 * count + 1, cut.type.rank)))
    whole = [size * block for size, block in zip(sizes, blocks, strict=False)]
    y = reshape(builder, moved, (-1, *whole, *sizes[count:]))
    if not any(side for pair in sides for side in pair):
        return [y]
    ends = [size - after for size, (_, after) in zip(whole, sides, strict=True)]
    if any(end < before for end, (before, _) in zip(ends, sides, strict=True)):
        raise ParseError(f"the crops {list(sides)} leave nothing of {y.type}")
    bounds = [vector([before for before, _ in sides]), vector(ends), vector(range(1, count + 1))]
    return [single(builder, "Slice", [y, *bounds])]
