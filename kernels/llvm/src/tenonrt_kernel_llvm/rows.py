"""Passes over dense rows, and over columns that lie side by side, for layers that normalize along one axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tenonrt.contracts import Dim, Dimension

from tenonrt_kernel_llvm.emitter import Function, Index, Value
from tenonrt_kernel_llvm.indexing import known, plus, times
from tenonrt_kernel_llvm.target import BLOCK

_COLUMN_VECTORS = 2

State = list[Value]
# (byte of the vector in the row, its lanes, what is carried) -> what is carried on
Visit = Callable[[Index, int, State], State]


def row_ways(size: int, most: int) -> int:
    """How many states a row of this size can keep busy."""
    return max(1, min(most, size // BLOCK))


def sweep(fn: Function, size: int, visit: Visit, states: Sequence[State]) -> list[State]:
    """``visit`` every vector of a row of ``size`` floats, as many at a time as there are states."""
    ways, width = len(states), len(states[0])
    whole, rest = divmod(size, BLOCK)
    turns = whole // ways

    def some(index: Index, flat: Sequence[Value], many: int) -> list[Value]:
        grouped = [list(flat[width * k : width * (k + 1)]) for k in range(ways)]
        for k in range(many):
            grouped[k] = visit(times(plus(index, k), 4 * BLOCK), BLOCK, grouped[k])
        return [value for state in grouped for value in state]

    flat = [value for state in states for value in state]
    if turns == 1:
        flat = some(0, flat, ways)
    elif turns:
        flat = fn.loop(0, turns * ways, lambda i, carried: some(i, carried, ways), flat, ways)
    flat = some(turns * ways, flat, whole % ways)
    found = [list(flat[width * k : width * (k + 1)]) for k in range(ways)]
    if rest:
        found[-1] = visit(4 * BLOCK * whole, rest, found[-1])
    return found


def keep_lanes(fn: Function, value: Value, count: int, other: Value) -> Value:
    """The first lanes of a value, the others of another one."""
    if count == BLOCK:
        return value
    inside = fn.lane_constants("i1", [int(lane < count) for lane in range(BLOCK)])
    return fn.select(inside, value, other)


def column_tiles(inner: int) -> int:
    """How many tiles ``inner`` columns are cut into."""
    return -(-inner // (_COLUMN_VECTORS * BLOCK))


def each_column_tile(fn: Function, inner: int, tile: Index, body: Callable[[Index, list[int]], None]) -> None:
    """``body(byte of the tile in a row, lanes of its vectors)`` for a tile, of which the last may be narrower."""
    width = _COLUMN_VECTORS * BLOCK
    rest = inner - (column_tiles(inner) - 1) * width
    last = [min(BLOCK, rest - first) for first in range(0, rest, BLOCK)]
    full = [BLOCK] * _COLUMN_VECTORS
    start = times(tile, 4 * width)
    if isinstance(tile, int) or last == full:
        body(start, last)
        return
    fn.when(fn.compare("ne", tile, column_tiles(inner) - 1), lambda: body(start, full), lambda: body(start, last))


def along_columns(
    fn: Function, size: int, stride: int, visit: Callable[[Index, int, Value], Value], carried: Sequence[Value]
) -> list[Value]:
    """``visit(byte, which vector, its state) -> state`` down ``size`` rows that are ``stride`` bytes apart."""

    def one(row: Value, states: list[Value]) -> list[Value]:
        start = times(row, stride)
        return [visit(plus(start, 4 * BLOCK * k), k, state) for k, state in enumerate(states)]

    return fn.loop(0, size, one, carried)


def leading_sizes(shape: Sequence[Dimension]) -> list[Dimension]:
    """Axes merged into one; a symbolic first one stays apart, so that units can be cut from the others."""
    if shape and isinstance(shape[0], Dim):
        return [shape[0], math.prod(known(d) for d in shape[1:])]
    return [math.prod(known(d) for d in shape)]


def linear_index(coordinates: Sequence[Index], sizes: Sequence[Dimension]) -> Index:
    """The number of the row with these coordinates."""
    number: Index = 0
    for position, (coordinate, size) in enumerate(zip(coordinates, sizes, strict=True)):
        number = plus(times(number, known(size)), coordinate) if position else coordinate
    return number
