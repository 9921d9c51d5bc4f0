"""Strided slices with TensorFlow's masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import GraphBuilder, ParseError, Tensor, known_values

from tenonrt_parser_uff.emit import MAXIMUM, MINIMUM, integers, shape_operand, single


@dataclass(frozen=True)
class Masks:
    """Bit i speaks of entry i of begin, end and strides."""

    begin: int = 0
    end: int = 0
    shrink: int = 0
    ellipsis: int = 0
    new_axis: int = 0


@dataclass
class _Cut:
    """What is cut from the input, and what then becomes of its axes."""

    starts: list[int]
    ends: list[int]
    axes: list[int]
    steps: list[int]
    removed: list[int]  # axes of the input
    inserted: list[int]  # axes of the result


def strided_slice(
    builder: GraphBuilder, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor, masks: Masks
) -> Tensor:
    """x[begin:end:strides] as NumPy would, entry by entry: a range, one element, ``...`` or a new axis."""
    if not _known(begin) or not _known(end):
        return _computed(builder, x, begin, end, strides, masks)
    cut = _cut(x.type.rank, integers(begin, "begin"), integers(end, "end"), integers(strides, "strides"), masks)
    y = x
    if cut.axes:
        vectors = [np.array(v, np.int64) for v in (cut.starts, cut.ends, cut.axes, cut.steps)]
        y = single(builder, "Slice", [x, *vectors])
    if cut.removed:
        y = single(builder, "Squeeze", [y], {"axes": tuple(cut.removed)})
    if cut.inserted:
        y = single(builder, "Unsqueeze", [y], {"axes": tuple(cut.inserted)})
    return y


def _known(tensor: Tensor) -> bool:
    if tensor.constant is not None:
        return True
    values = known_values(tensor.info)
    return values is not None and all(isinstance(value, int) for value in values)


def _computed(builder: GraphBuilder, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor, masks: Masks) -> Tensor:
    if masks != Masks():
        raise ParseError("begin and end must be known when the file is read, as it has masks")
    operands = [shape_operand(builder, t, what) for t, what in ((begin, "begin"), (end, "end"), (strides, "strides"))]
    axes = np.arange(operands[0].shape[0] if isinstance(operands[0], np.ndarray) else _length(operands[0]))
    return single(builder, "Slice", [x, operands[0], operands[1], axes, operands[2]])


def _length(tensor: Tensor) -> int:
    length = tensor.type.shape[0] if tensor.type.rank == 1 else None
    if not isinstance(length, int) or length > 64:
        raise ParseError(f"begin must be a vector of known length, found {tensor.type}")
    return length


def _cut(rank: int, begin: list[int], end: list[int], strides: list[int], masks: Masks) -> _Cut:
    count = len(begin)
    if not count == len(end) == len(strides):
        raise ParseError(f"begin, end and strides have {count}, {len(end)} and {len(strides)} elements")
    if count > rank + 64 or masks.ellipsis & (masks.ellipsis - 1):
        raise ParseError(f"{count} entries, ellipsis mask {masks.ellipsis:#b}, for an input of rank {rank}")
    plain = [i for i in range(count) if not (masks.ellipsis | masks.new_axis) >> i & 1]
    if len(plain) > rank:
        raise ParseError(f"{len(plain)} axes are cut of an input of rank {rank}")
    cut = _Cut([], [], [], [], [], [])
    axis = kept = 0
    for i in range(count):
        if masks.ellipsis >> i & 1:
            axis, kept = axis + rank - len(plain), kept + rank - len(plain)
        elif masks.new_axis >> i & 1:
            cut.inserted.append(kept)
            kept += 1
        else:
            _entry(cut, axis, begin[i], end[i], strides[i], masks, i)
            kept += not masks.shrink >> i & 1
            axis += 1
    return cut


def _entry(cut: _Cut, axis: int, begin: int, end: int, stride: int, masks: Masks, i: int) -> None:
    if stride == 0:
        raise ParseError(f"the stride of axis {axis} is 0")
    if masks.shrink >> i & 1:
        cut.removed.append(axis)
        end, stride = (MAXIMUM if begin == -1 else begin + 1), 1
    else:
        begin = (0 if stride > 0 else MAXIMUM) if masks.begin >> i & 1 else begin
        end = (MAXIMUM if stride > 0 else MINIMUM) if masks.end >> i & 1 else end
    if (begin, end, stride) == (0, MAXIMUM, 1):
        return
    if any(not MINIMUM <= value <= MAXIMUM for value in (begin, end, stride)):
        raise ParseError(f"axis {axis} is cut at a number past 64 bits")
    cut.axes.append(axis)
    cut.starts.append(begin)
    cut.ends.append(end)
    cut.steps.append(stride)
