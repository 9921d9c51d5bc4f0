"""From the number of a unit of work to coordinates, from coordinates to addresses; lanes that hold no channel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tenonrt.contracts import NCHW16C, Dim, Dimension, Format, TensorType

from tenonrt_kernel_llvm.emitter import FLOAT, I32, I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.routine import Operand, Routine
from tenonrt_kernel_llvm.target import BLOCK


def known(size: Dimension | Index) -> int:
    """A size that must be a number here, because the kernel's `supports` said so."""
    assert isinstance(size, int), f"{size} is no number"
    return size


def unravel(unit: Value, sizes: Sequence[Index]) -> list[Index]:
    """Coordinates of a unit, the last one running fastest. The first size may be any number and is not looked at."""
    coordinates: list[Index] = []
    rest: Index = unit
    for size in reversed(sizes[1:]):
        if isinstance(size, int) and size == 1:
            coordinates.append(0)
            continue
        assert isinstance(rest, Value)
        coordinates.append(rest % size)
        rest = rest // size
    return [rest, *reversed(coordinates)]


def distance(coordinates: Sequence[Index], strides: Sequence[Index]) -> Index:
    """The sum of the products of coordinates and strides."""
    total: Index = 0
    for coordinate, stride in zip(coordinates, strides, strict=True):
        total = plus(total, times(coordinate, stride))
    return total


def address(fn: Function, operand: Operand, coordinates: Sequence[Index]) -> Value:
    """Where the element with these first coordinates lies."""
    return fn.offset(operand.pointer, distance(coordinates, operand.strides[: len(coordinates)]))


def plus(a: Index, b: Index) -> Index:
    """a + b of numbers and values."""
    return b + a if isinstance(a, int) else a + b


def times(a: Index, b: Index) -> Index:
    """a * b of numbers and values."""
    return b * a if isinstance(a, int) else a * b


def ceil_divide(a: Index, b: int) -> Index:
    """For numbers that are not negative."""
    return plus(a, b - 1) // b


def is_blocked(format: Format) -> bool:
    """Whether 16 channels lie innermost, whatever the number of spatial axes."""
    return format == NCHW16C


def static_from(type: TensorType, axis: int) -> bool:
    """Whether every size from this axis on is a number."""
    return not any(isinstance(d, Dim) for d in type.shape[axis:])


def empty(*types: TensorType) -> bool:
    """Whether a tensor surely has no elements: there is nothing to be fast at."""
    return any(isinstance(d, int) and d == 0 for type in types for d in type.shape)


def chunk_for(work: int, total: Dimension, aim: int = 16384) -> int:
    """How many items of this much work (elements touched) make a unit that takes about a microsecond or more.

    No more than leave 8 units where the total is known, so that threads can share them.
    """
    chunk = max(1, aim // max(1, work))
    return max(1, min(chunk, total // 8 if isinstance(total, int) else chunk))


class ChannelLanes:
    """Which lanes of a block hold channels; the others are kept zero. Nothing is emitted where all of them do."""

    def __init__(self, fn: Function, channels: int, block: Index) -> None:
        self._fn = fn
        self._mask: Value | None = None
        if channels % BLOCK and not (isinstance(block, int) and block < channels // BLOCK):
            remaining = plus(times(block, -BLOCK), channels)
            count = fn.emit(I32, f"trunc i64 {fn.as_value(remaining, I64).text} to i32")
            lanes = fn.lane_constants(I32, range(BLOCK))
            inside = fn.compare("slt", lanes, fn.splat(count, BLOCK))
            self._mask = fn.convert("sext", inside, I32)

    def clear(self, value: Value) -> Value:
        """The value with zeros in lanes without a channel, whatever they hold."""
        if self._mask is None:
            return value
        bits = self._fn.binary("and", self._fn.convert("bitcast", value, I32), self._mask)
        return self._fn.emit(vector(BLOCK), f"bitcast {bits.type} {bits.text} to {vector(BLOCK, FLOAT)}")


def items_phase(
    routine: Routine, sizes: Sequence[Dimension], work: int, body: Callable[[list[Index]], None], aim: int = 16384
) -> None:
    """A phase that runs ``body(coordinates)`` on a grid of these sizes; work: elements that one of them touches.

    Neighbouring items share a unit where they are small. Only the first size may be symbolic, and then each of its
    values has units of its own, so that their number stays a product.
    """
    lead = sizes[0] if isinstance(sizes[0], Dim) else 1
    inner = [known(s) for s in (sizes[1:] if isinstance(sizes[0], Dim) else sizes)]
    total = math.prod(inner)
    chunk = min(chunk_for(work, total if lead == 1 else 8 * total, aim), total)
    chunks = -(-total // chunk)

    def unit(number: Value) -> None:
        outer, part = unravel(number, [0, chunks])

        def one(item: Value, _: list[Value]) -> Sequence[Value]:
            coordinates = unravel(item, inner or [1])
            body([outer, *coordinates] if isinstance(sizes[0], Dim) else coordinates)
            return ()

        first = times(part, chunk)
        routine.function.loop(first, routine.function.minimum(plus(first, chunk), total), one)

    routine.phase(lead * chunks, unit)
