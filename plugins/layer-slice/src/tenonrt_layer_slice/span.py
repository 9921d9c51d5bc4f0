"""One axis of a slice: ONNX's clamping of starts and ends, for lengths that may be symbolic."""

from __future__ import annotations

from typing import cast

from tenonrt.contracts import Dim, Dimension, maximum, minimum, unknown

# Exporters write "to the end" as a number no axis reaches.
FAR = 2**31 - 1


def bounded(start: int, end: int, step: int, length: int) -> slice:
    """The Python slice that takes what ONNX takes: the start is clamped into the axis also when stepping backwards."""
    start, end = (v + length if v < 0 else v for v in (start, end))
    if step > 0:
        return slice(min(max(start, 0), length), min(max(end, 0), length), step)
    first, last = min(max(start, 0), length - 1), min(max(end, -1), length - 1)
    if first <= last:
        return slice(0, 0, 1)
    return slice(first, None if last < 0 else last, step)


def taken(start: Dimension, end: Dimension, step: Dimension, length: Dimension) -> Dimension:
    """How many elements of an axis a slice takes; not known when a sign or the step depends on symbols."""
    if isinstance(step, Dim):
        return unknown(length)
    if not any(isinstance(v, Dim) for v in (start, end, length)):
        begin, stop, size = cast("tuple[int, int, int]", (start, end, length))
        return len(range(size)[bounded(begin, stop, step, size)])
    try:
        return _forward(start, end, step, length) if step > 0 else _backward(start, end, -step, length)
    except ValueError:  # whether a start or an end counts from the axis' end is undecided
        return unknown(length)


def _forward(start: Dimension, end: Dimension, step: int, length: Dimension) -> Dimension:
    first = 0 if start == 0 else _counted(start, length)
    if _reaches_end(end, length):
        return _rounded_up(_positive(length - _positive(first)), step)
    last = minimum(length, _positive(_counted(end, length)))
    return _rounded_up(last if first == 0 else _positive(last - minimum(length, _positive(first))), step)


def _backward(start: Dimension, end: Dimension, step: int, length: Dimension) -> Dimension:
    far = start == -1 or (isinstance(start, int) and start >= FAR) or start in {length, length - 1}
    first = length - 1 if far else minimum(length - 1, _positive(_counted(start, length)))
    if isinstance(end, int) and end <= -FAR:
        return _rounded_up(_positive(first + 1), step)
    return _rounded_up(_positive(first - maximum(_counted(end, length), -1)), step)


def _counted(position: Dimension, length: Dimension) -> Dimension:
    """A position counted from the beginning of the axis; `UndecidedError` when its sign is not known."""
    return position + length if position < 0 else position


def _reaches_end(end: Dimension, length: Dimension) -> bool:
    return end == length or (isinstance(end, int) and end >= FAR)


def _positive(value: Dimension) -> Dimension:
    return maximum(value, 0)


def _rounded_up(value: Dimension, step: int) -> Dimension:
    return (value + (step - 1)) // step
