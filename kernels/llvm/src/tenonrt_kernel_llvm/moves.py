"""What goes where in the layers that only move elements: rectangles with steps, from one tensor to another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tenonrt.contracts import Dim, Dimension, Problem, normalize_axes, normalize_axis

from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Side:
    """One end of a move. start: the first element, along each axis of the tensor.

    steps: for every axis of the move, (axis of the tensor, elements to go on by); None stays where it is.
    """

    tensor: int
    start: tuple[Dimension, ...]
    steps: tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class Move:
    """Elements of a box of ``sizes``; without a source all of them become ``fill``, the bits of an element."""

    sizes: tuple[Dimension, ...]
    source: Side | None
    target: Side
    fill: int = 0


class NotMovableError(Exception):
    """Why a layer cannot be stated as moves."""


class SizesUnknownError(NotMovableError):
    """It can, once all sizes are numbers."""


def moves_of(problem: Problem) -> list[Move]:
    """The moves of a single layer, in logical axes; `NotMovableError` where there are none."""
    kind = problem.layer.kind
    if len(problem.layers) != 1 or kind not in _PLANNERS:
        raise NotMovableError(f"only one layer that moves elements, not {'+'.join(problem.kinds)}")
    return [move for move in _PLANNERS[kind](problem) if not any(d == 0 for d in move.sizes)]


def data_inputs(problem: Problem) -> tuple[int, ...]:
    """The tensors whose elements are moved, not those that say where to."""
    layer = problem.layer
    return tuple(dict.fromkeys(layer.inputs if layer.kind == "Concatenation" else layer.inputs[:1]))


def in_blocks(move: Move, problem: Problem) -> Move | None:
    """The same move between tensors in blocks of 16 channels; None where it would cut a block."""
    sides = [side for side in (move.source, move.target) if side is not None]
    channel = {_axis_for(side, 1) for side in sides}
    if len(channel) != 1 or None in channel:
        return None
    (axis,) = channel
    assert axis is not None
    size = move.sizes[axis]
    if not isinstance(size, int) or (move.source is None and move.fill and size % BLOCK):
        return None
    if not all(_whole_blocks(side, problem, axis, size) for side in sides):
        return None
    sizes = (*(-(-size // BLOCK) if i == axis else d for i, d in enumerate(move.sizes)), BLOCK)
    source = None if move.source is None else _blocked(move.source)
    return replace(move, sizes=sizes, source=source, target=_blocked(move.target))


def _axis_for(side: Side, axis: int) -> int | None:
    """The only axis of the move that runs along an axis of the tensor."""
    found = [i for i, step in enumerate(side.steps) if step is not None and step[0] == axis]
    return found[0] if len(found) == 1 else None


def _whole_blocks(side: Side, problem: Problem, axis: int, size: int) -> bool:
    start, channels, step = side.start[1], problem.types[side.tensor].shape[1], side.steps[axis]
    if not isinstance(start, int) or not isinstance(channels, int) or step != (1, 1):
        return False
    return start % BLOCK == 0 and (size % BLOCK == 0 or start + size == channels)


def _blocked(side: Side) -> Side:
    start = (side.start[0], side.start[1] // BLOCK, *side.start[2:], 0)
    return replace(side, start=start, steps=(*side.steps, (len(side.start), 1)))


# --- the layers ------------------------------------------------------------------------------------------------------


def _whole(tensor: int, rank: int) -> Side:
    return Side(tensor, (0,) * rank, tuple((axis, 1) for axis in range(rank)))


def _at(side: Side, axis: int, start: Dimension) -> Side:
    return replace(side, start=(*side.start[:axis], start, *side.start[axis + 1 :]))


def values_of(problem: Problem, position: int) -> list[Any] | None:
    """The elements of an input that must be known; None where the layer has no such input."""
    inputs = problem.layer.inputs
    if position >= len(inputs) or inputs[position] < 0:
        return None
    value = problem.inputs[inputs[position]].value
    if value is None:
        raise NotMovableError(f"input {position} is not known while code is generated")
    return list(value)


def _ends(problem: Problem) -> tuple[int, int]:
    return problem.layer.inputs[0], problem.layer.outputs[0]


def _same(problem: Problem) -> list[Move]:
    """A layer that keeps every byte where it is."""
    source, target = _ends(problem)
    shapes = problem.types[source].shape, problem.types[target].shape
    if shapes[0] == shapes[1]:
        return [Move(shapes[0], _whole(source, len(shapes[0])), _whole(target, len(shapes[0])))]
    if not all(isinstance(d, int) for shape in shapes for d in shape):
        raise SizesUnknownError("reshapes only known sizes")
    # Both are dense: whatever splits of the elements there are, one is the whole.
    return [_flat(source, target, shapes)]


def _flat(source: int, target: int, shapes: Sequence[Sequence[Dimension]]) -> Move:
    """All elements as one axis, which runs along the last one of each tensor past its end."""
    total = math.prod(known(d) for d in shapes[0])
    ends = [
        Side(tensor, (0,) * len(shape), ((len(shape) - 1, 1) if shape else None,))
        for tensor, shape in zip((source, target), shapes, strict=True)
    ]
    return Move((total,), ends[0], ends[1])


def _transpose(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    rank = problem.types[source].rank
    order = normalize_axes(problem.layer.attrs.permutation, rank) or tuple(reversed(range(rank)))
    origin = Side(source, (0,) * rank, tuple((axis, 1) for axis in order))
    return [Move(problem.types[target].shape, origin, _whole(target, rank))]


def _concatenate(problem: Problem) -> list[Move]:
    (target,) = problem.layer.outputs
    rank = problem.types[target].rank
    axis = normalize_axis(problem.layer.attrs.axis, rank)
    found: list[Move] = []
    offset: Dimension = 0
    for source in problem.layer.inputs:
        shape = problem.types[source].shape
        found.append(Move(shape, _whole(source, rank), _at(_whole(target, rank), axis, offset)))
        offset = offset + shape[axis]
    return found


def _split(problem: Problem) -> list[Move]:
    source = problem.layer.inputs[0]
    rank = problem.types[source].rank
    axis = normalize_axis(problem.layer.attrs.axis, rank)
    found: list[Move] = []
    offset: Dimension = 0
    for target in problem.layer.outputs:
        shape = problem.types[target].shape
        if target in problem.outputs:
            found.append(Move(shape, _at(_whole(source, rank), axis, offset), _whole(target, rank)))
        offset = offset + shape[axis]
    return found


def _slice(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    shape, rank = problem.types[source].shape, problem.types[source].rank
    starts, axes, steps = (values_of(problem, position) for position in (1, 3, 4))
    assert starts is not None
    values_of(problem, 2)
    chosen = normalize_axes([int(a) for a in axes], rank) if axes is not None else tuple(range(len(starts)))
    begin: list[int] = [0] * rank
    stride = [1] * rank
    for i, axis in enumerate(chosen):
        stride[axis] = 1 if steps is None else int(steps[i])
        begin[axis] = _clamped(int(starts[i]), stride[axis], shape[axis])
    origin = Side(source, tuple(begin), tuple((axis, step) for axis, step in enumerate(stride)))
    return [Move(problem.types[target].shape, origin, _whole(target, rank))]


def _clamped(start: int, step: int, length: Dimension) -> int:
    """Where a slice begins: inside the axis, also when it goes backwards."""
    if isinstance(length, Dim):
        if start != 0 or step != 1:
            raise SizesUnknownError("slices axes of known sizes")
        return 0
    start = start + length if start < 0 else start
    return min(max(start, 0), length if step > 0 else length - 1)


def _expand(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    shape, wide = problem.types[source].shape, problem.types[target].shape
    missing = len(wide) - len(shape)
    steps = tuple(
        (i - missing, 1) if i >= missing and shape[i - missing] == d else None for i, d in enumerate(wide)
    )  # fmt: skip
    return [Move(wide, Side(source, (0,) * len(shape), steps), _whole(target, len(wide)))]


def _tile(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    shape = problem.types[source].shape
    repeats = values_of(problem, 1) or []
    sizes: list[Dimension] = []
    origin: list[tuple[int, int] | None] = []
    place: list[tuple[int, int] | None] = []
    for axis, (size, times) in enumerate(zip(shape, repeats, strict=True)):
        if times != 1:
            if isinstance(size, Dim):
                raise SizesUnknownError("repeats axes of known sizes")
            sizes.append(int(times))
            origin.append(None)
            place.append((axis, size))
        sizes.append(size)
        origin.append((axis, 1))
        place.append((axis, 1))
    start = (0,) * len(shape)
    return [Move(tuple(sizes), Side(source, start, tuple(origin)), Side(target, start, tuple(place)))]


def _pad(problem: Problem) -> list[Move]:
    if problem.layer.attrs.mode != "constant":
        raise NotMovableError(f"pads with a value, not in mode {problem.layer.attrs.mode}")
    source, target = _ends(problem)
    shape, wide, rank = problem.types[source].shape, problem.types[target].shape, problem.types[source].rank
    pads, axes = values_of(problem, 1) or [], values_of(problem, 3)
    chosen = normalize_axes([int(a) for a in axes], rank) if axes is not None else tuple(range(rank))
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(chosen):
        before[axis], after[axis] = int(pads[i]), int(pads[i + len(chosen)])
    sizes = [d + min(b, 0) + min(a, 0) for d, b, a in zip(shape, before, after, strict=True)]
    origin = replace(_whole(source, rank), start=tuple(max(-b, 0) for b in before))
    place = replace(_whole(target, rank), start=tuple(max(b, 0) for b in before))
    found = [Move(tuple(sizes), origin, place)]
    fill = _bits(problem, values_of(problem, 2))
    inside: list[Dimension] = list(wide)
    start = [0] * rank
    for axis in range(rank):
        slabs: list[tuple[Dimension, int]] = [(0, max(before[axis], 0))]
        slabs.append((sizes[axis] + max(before[axis], 0), max(after[axis], 0)))
        for first, length in slabs:
            if length:
                size = (*inside[:axis], length, *inside[axis + 1 :])
                slab_start = (*start[:axis], first, *start[axis + 1 :])
                found.append(Move(size, None, replace(place, start=slab_start), fill))
        inside[axis], start[axis] = sizes[axis], max(before[axis], 0)
    return found


def _bits(problem: Problem, value: Sequence[Any] | None) -> int:
    dtype = problem.types[problem.layer.outputs[0]].numpy
    if value is None:
        return 0
    return int.from_bytes(np.array(value[0], dtype).tobytes(), "little", signed=True)


def _depth_to_space(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    (n, channels, height, width), b = problem.types[source].shape, problem.layer.attrs.block_size
    if isinstance(channels, Dim):
        raise SizesUnknownError("deals out a known number of channels")
    depth = channels // (b * b)
    # Channel steps of (depth, block row, block column).
    deep, down, right = (1, b * depth, depth) if problem.layer.attrs.mode == "DCR" else (b * b, b, 1)
    sizes = (n, depth, height, b, width, b)
    origin = ((0, 1), (1, deep), (2, 1), (1, down), (3, 1), (1, right))
    place = ((0, 1), (1, 1), (2, b), (2, 1), (3, b), (3, 1))
    return [Move(sizes, Side(source, (0,) * 4, origin), Side(target, (0,) * 4, place))]


def _space_to_depth(problem: Problem) -> list[Move]:
    source, target = _ends(problem)
    (n, channels, height, width), b = problem.types[source].shape, problem.layer.attrs.block_size
    if isinstance(channels, Dim):
        raise SizesUnknownError("deals out a known number of channels")
    sizes = (n, b, b, channels, height // b, width // b)
    origin = ((0, 1), (2, 1), (3, 1), (1, 1), (2, b), (3, b))
    place = ((0, 1), (1, b * channels), (1, channels), (1, 1), (2, 1), (3, 1))
    return [Move(sizes, Side(source, (0,) * 4, origin), Side(target, (0,) * 4, place))]


_PLANNERS: dict[str, Callable[[Problem], list[Move]]] = {
    "Concatenation": _concatenate,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _same,
    "Identity": _same,
    "Padding": _pad,
    "Reshape": _same,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _same,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _same,
}
