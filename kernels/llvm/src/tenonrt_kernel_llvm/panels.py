"""Matrix products in registers: panels of the right-hand matrix, packed, and tiles of rows times one panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.emitter import FLOAT, Function, Value, vector
from tenonrt_kernel_llvm.target import BLOCK, Target
from tenonrt_kernel_llvm.transposition import transpose

_UNROLLED = 4  # products of one element each in a turn of the inner loop; more only take longer to compile
_SQUARE = 8  # columns and rows that are transposed in registers


@dataclass(frozen=True)
class Tiling:
    """Rows and columns whose sums are kept in registers at once."""

    rows: int
    width: int


def tiling(target: Target, rows: int | None = None) -> Tiling:
    """The largest tile that leaves registers for the operands; for fewer rows it is wider.

    AVX-512 14 x 32, AVX2 6 x 16, NEON 6 x 16, SSE 2 x 16.
    """
    each = target.registers_per_block
    width = BLOCK if each > 1 else 2 * BLOCK
    taken = each * width // BLOCK
    most = (target.registers - taken - 2) // taken
    if rows is None or rows >= most:
        return Tiling(most, width)
    while rows * 2 <= most and width < 64:
        width, most = width * 2, most // 2
    return Tiling(rows, width)


@dataclass(frozen=True)
class Rows:
    """Rows of the left matrix. row, step: bytes from row to row and from one element to the next of a sum."""

    pointer: Value
    row: int
    step: int


@dataclass(frozen=True)
class Panel:
    """Columns of the right matrix, side by side. step: bytes from one row of it to the next; count: columns it has."""

    pointer: Value
    step: int
    width: int
    count: int


def product(
    fn: Function, left: Rows, panel: Panel, rows: int, depth: int, start: Sequence[Value] | None = None
) -> list[Value]:
    """One vector of sums for each row, added to ``start``."""
    zero = fn.zero(vector(panel.width))
    sums = list(start) if start is not None else [zero] * rows

    def turns(a: Value, b: Value, sums: Sequence[Value], count: int) -> list[Value]:
        kept = list(sums)
        for k in range(count):
            right = fn.load_lanes(zero.type, b, panel.count, k * panel.step)
            for i in range(rows):
                one = fn.load(FLOAT, a, i * left.row + k * left.step)
                kept[i] = fn.fma(fn.splat(one, panel.width), right, kept[i])
        return kept

    whole = depth // _UNROLLED * _UNROLLED
    if depth < 2 * _UNROLLED:
        whole = 0

    def body(k: Value, sums: list[Value]) -> list[Value]:
        a, b = fn.offset(left.pointer, k * left.step), fn.offset(panel.pointer, k * panel.step)
        return turns(a, b, sums, _UNROLLED)

    sums = fn.loop(0, whole, body, sums, step=_UNROLLED)
    a, b = fn.offset(left.pointer, whole * left.step), fn.offset(panel.pointer, whole * panel.step)
    return turns(a, b, sums, depth - whole)


@dataclass(frozen=True)
class Columns:
    """Where a panel is packed from. column, step: bytes from column to column and from row to row."""

    pointer: Value
    column: int
    step: int
    count: int


def pack_panel(fn: Function, packed: Value, source: Columns, depth: int, width: int) -> Panel:
    """Copy columns into rows of ``width`` floats behind each other; those that are missing become zeros."""
    if source.column == 4:
        _copy_rows(fn, packed, source, depth, width)
    else:
        for first in range(0, width, _SQUARE):
            _pack_square_columns(fn, packed, source, depth, width, first)
    return Panel(packed, 4 * width, width, width)


def _copy_rows(fn: Function, packed: Value, source: Columns, depth: int, width: int) -> None:
    def row(k: Value, _: list[Value]) -> Sequence[Value]:
        found = fn.load_lanes(vector(width), source.pointer, source.count, k * source.step)
        fn.store(found, packed, k * (4 * width))
        return ()

    fn.loop(0, depth, row)


def _pack_square_columns(fn: Function, packed: Value, source: Columns, depth: int, width: int, first: int) -> None:
    """Eight columns: squares of them transposed where rows are dense, otherwise element by element."""
    count = max(0, min(_SQUARE, source.count - first))
    origin = fn.offset(source.pointer, first * source.column)

    def square(k: Value, _: list[Value]) -> Sequence[Value]:
        rows = [fn.load(vector(_SQUARE), fn.offset(origin, k * 4), column * source.column) for column in range(_SQUARE)]
        at = fn.offset(packed, k * (4 * width))
        for i, turned in enumerate(transpose(fn, rows)):
            fn.store(turned, at, 4 * (i * width + first))
        return ()

    def single(k: Value, _: list[Value]) -> Sequence[Value]:
        found = fn.zero(vector(_SQUARE))
        for column in range(count):
            one = fn.load(FLOAT, fn.offset(origin, k * source.step), column * source.column)
            found = fn.insert(found, one, column)
        fn.store(found, packed, k * (4 * width) + 4 * first)
        return ()

    whole = depth // _SQUARE * _SQUARE if count == _SQUARE and source.step == 4 else 0
    fn.loop(0, whole, square, step=_SQUARE)
    fn.loop(whole, depth, single)
