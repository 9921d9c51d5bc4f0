"""Code for moves between strided tensors: rows of bytes, repeated elements, transposed tiles, single elements.

Neighbouring axes are merged where both sides step through them evenly. Elements are bits: the type does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tenonrt.contracts import Dim, Dimension

from tenonrt_kernel_llvm.emitter import I8, Function, Index, Value, vector
from tenonrt_kernel_llvm.indexing import chunk_for, distance, known, plus, times, unravel
from tenonrt_kernel_llvm.moves import Move, Side
from tenonrt_kernel_llvm.routine import Operand, Routine, dense_strides
from tenonrt_kernel_llvm.target import BLOCK
from tenonrt_kernel_llvm.transposition import transpose

CHUNK = 64  # bytes copied at once: 16 floats, a line of the cache
_ROW = 1 << 15  # bytes; longer rows are cut, so that threads can share them
_INNER = 1 << 13  # bytes; moved by loops without divisions
_UNIT = 1 << 16  # bytes; moved by a unit at most, where there are several
_UNROLLED = 4
_TILES = 64  # of a strip at most; longer ones are cut


@dataclass(frozen=True)
class Strided:
    """A move in memory: sizes, and byte strides on both sides. Without a source, ``fill`` goes everywhere."""

    sizes: tuple[int, ...]
    source: Value | None
    target: Value
    origin: tuple[Index, ...]
    place: tuple[Index, ...]
    lead: tuple[Index, Index]  # bytes from image to image on either side, where their number is symbolic
    item: int
    fill: int = 0

    @property
    def row(self) -> int:
        """Bytes of the last axis."""
        return self.sizes[-1] * self.item


def lead_of(moves: Sequence[Move]) -> Dimension | None:
    """The symbolic first size that all moves share, 1 where every size is a number, None otherwise."""
    leads: set[Dimension] = {move.sizes[0] if move.sizes and isinstance(move.sizes[0], Dim) else 1 for move in moves}
    if len(leads) > 1 or any(isinstance(d, Dim) for move in moves for d in move.sizes[1:]):
        return None
    lead: Dimension = next(iter(leads), 1)
    sides = [side for move in moves for side in (move.source, move.target) if side is not None]
    if any(isinstance(start, Dim) for side in sides for start in side.start):
        return None
    if lead != 1 and any(side.steps[0] not in ((0, 1), None) or side.start[0] != 0 for side in sides):
        return None
    return lead


def copy_phase(routine: Routine, moves: Sequence[Move], operand: Callable[[int], Operand]) -> None:
    """A phase that makes all moves; ``operand``: where a tensor of the problem lies."""
    lead = lead_of(moves)
    assert lead is not None, "sizes that come at run time are the first of every move"
    symbolic = isinstance(lead, Dim)
    writers: list[_Writer] = []
    for move in moves:
        parts = _cut(_merged(_strided(move, operand, symbolic=symbolic)))
        writers += [_writer(routine.function, part) for part in parts]
    total = sum(writer.units for writer in writers)
    if not total:
        routine.phase(0, lambda unit: None)
        return

    def unit(number: Value) -> None:
        image, rest = (number // total, number % total) if symbolic else (0, number)
        _choose(routine.function, writers, rest, image)

    routine.phase(lead * total, unit)


def _choose(fn: Function, writers: Sequence[_Writer], number: Value, image: Index) -> None:
    """The writer that a unit belongs to, looked for by halving."""
    if len(writers) == 1:
        writers[0].unit(number, image)
        return
    half = len(writers) // 2
    first = sum(writer.units for writer in writers[:half])
    fn.when(
        fn.compare("slt", number, first),
        lambda: _choose(fn, writers[:half], number, image),
        lambda: _choose(fn, writers[half:], number - first, image),
    )


# --- from moves to strides -------------------------------------------------------------------------------------------


def _strided(move: Move, operand: Callable[[int], Operand], *, symbolic: bool) -> Strided:
    target = operand(move.target.tensor)
    item = target.type.numpy.itemsize
    pointer, place = _steps(target, move.target)
    source, origin = None, tuple(0 for _ in place)
    if move.source is not None:
        source, origin = _steps(operand(move.source.tensor), move.source)  # type: ignore[assignment]
    lead: tuple[Index, Index] = (0, 0)
    sizes = move.sizes
    if symbolic:
        lead, sizes, origin, place = (origin[0], place[0]), sizes[1:], origin[1:], place[1:]
    return Strided(tuple(known(d) for d in sizes), source, pointer, origin, place, lead, item, move.fill)


def _steps(operand: Operand, side: Side) -> tuple[Value, tuple[Index, ...]]:
    """Where a side begins, and the bytes of a step along each axis of the move."""
    strides = block_strides(operand)
    at = distance([known(s) for s in side.start], strides)
    pointer = operand.pointer.function.offset(operand.pointer, at)
    return pointer, tuple(0 if step is None else times(strides[step[0]], step[1]) for step in side.steps)


def block_strides(operand: Operand) -> tuple[Index, ...]:
    """The strides, known where a slice of a tensor in blocks has to be dense: everywhere but along the batch."""
    if not operand.type.format.blocks:
        return operand.strides
    return (operand.strides[0], *dense_strides(operand.shape, operand.type.numpy.itemsize)[1:])


def _merged(move: Strided) -> Strided:
    """Without axes of size 1, and with one axis for two that both sides step through evenly."""
    axes = [axis for axis in zip(move.sizes, move.origin, move.place, strict=True) if axis[0] != 1]
    found: list[tuple[int, Index, Index]] = []
    for size, origin, place in reversed(axes):
        if found:
            inner, inner_origin, inner_place = found[0]
            numbers = isinstance(inner_origin, int) and isinstance(inner_place, int)
            if numbers and (origin, place) == (inner_origin * inner, inner_place * inner):
                found[0] = (size * inner, inner_origin, inner_place)
                continue
        found.insert(0, (size, origin, place))
    if not found:
        found = [(1, move.item if move.source is not None else 0, move.item)]
    sizes, origins, places = zip(*found, strict=True)
    return replace(move, sizes=sizes, origin=origins, place=places)


def _cut(move: Strided) -> list[Strided]:
    """A long last axis becomes two, and the rest of it a move of its own."""
    if move.row <= _ROW or _turned(move) is not None:
        return [move]
    size, step = move.sizes[-1], (move.origin[-1], move.place[-1])
    whole = _even_part(size, move.item)
    each = whole or _ROW // move.item
    parts, rest = divmod(size, each)
    outer = move.sizes[:-1]
    main = replace(
        move, sizes=(*outer, parts, each), origin=(*move.origin[:-1], times(step[0], each), step[0]),
        place=(*move.place[:-1], times(step[1], each), step[1]),
    )  # fmt: skip
    if not rest:
        return [main]
    fn, done = move.target.function, parts * each
    source = None if move.source is None else fn.offset(move.source, times(step[0], done))
    last = replace(move, sizes=(*outer, rest), source=source, target=fn.offset(move.target, times(step[1], done)))
    return [main, last]


def _even_part(size: int, item: int) -> int:
    """The largest divisor of a row that is made of whole chunks and no longer than a part; 0 if there is none."""
    whole = (d for d in range(_ROW // item, _ROW // (8 * item), -1) if size % d == 0 and d * item % CHUNK == 0)
    return next(whole, 0)


# --- writers ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Code for one move, cut into units. The innermost axes are loops, the others a grid of items."""

    def __init__(self, fn: Function, move: Strided, grid: int) -> None:
        self.fn, self.move, self.grid = fn, move, grid
        self.total = math.prod(move.sizes[:grid])
        work = math.prod(move.sizes[grid:]) * move.item
        self.chunk = max(1, min(chunk_for(work, self.total, _UNIT), self.total))
        if work * self.total <= _INNER:
            self.chunk = self.total
        self.units = -(-self.total // self.chunk)

    def unit(self, number: Value, image: Index) -> None:
        move, fn = self.move, self.fn
        source = None if move.source is None else fn.offset(move.source, times(image, move.lead[0]))
        target = fn.offset(move.target, times(image, move.lead[1]))

        def item(index: Value, _: list[Value]) -> Sequence[Value]:
            at = unravel(index, move.sizes[: self.grid]) if self.grid else []
            self.inner(self.grid, _on(source, at, move.origin), fn.offset(target, _distance(at, move.place)))
            return ()

        first = times(number, self.chunk)
        fn.loop(first, fn.minimum(plus(first, self.chunk), self.total), item)

    def inner(self, axis: int, source: Value | None, target: Value) -> None:
        """The axes from ``axis`` on, as nested loops around the last."""
        move = self.move
        if axis >= len(move.sizes) - 1:
            self.last(source, target)
            return

        def turn(index: Index) -> None:
            moved = self.fn.offset(target, times(index, move.place[axis]))
            self.inner(axis + 1, _on(source, [index], move.origin[axis:]), moved)

        _repeat(self.fn, move.sizes[axis], turn)

    def last(self, source: Value | None, target: Value) -> None:
        """Single elements, whatever their strides."""
        move, fn = self.move, self.fn

        def turn(index: Index) -> None:
            at = times(index, move.place[-1])
            value = self._element(source, times(index, move.origin[-1]))
            fn.store(value, target, at, move.item)

        _repeat(fn, move.sizes[-1], turn)

    def _element(self, source: Value | None, at: Index) -> Value:
        type = _integer(self.move.item)
        return self.fn.constant(type, self.move.fill) if source is None else self.fn.load(type, source, at, 1)


class _Rows(_Writer):
    """The last axis is dense on both sides, or one element is repeated."""

    def last(self, source: Value | None, target: Value) -> None:
        move, fn = self.move, self.fn
        repeated = (move.origin[-1] == 0 and move.sizes[-1] > 1) or source is None
        element = self._element(source, 0) if repeated else None

        def piece(at: Index, nbytes: int) -> None:
            if element is None:
                assert source is not None
                value = fn.load(_bytes(nbytes), source, at, 1)
            elif source is None:
                value = fn.constant(vector(nbytes // move.item, element.type), move.fill)
            else:
                value = fn.splat(element, nbytes // move.item)
            fn.store(value, target, at, 1)

        pieces(fn, move.row, piece)


class _Tiles(_Writer):
    """Squares turned over in registers: the source is dense along one axis, the target along another.

    The grid's last two axes are parts of the target's axis, and strips of the source's as wide as a tile: the target is
    written line after line. The last tile of either begins early enough to be whole, so that some elements are moved
    twice.
    """

    def __init__(self, fn: Function, move: Strided, across: int) -> None:
        self.lanes = tile_lanes(fn, move.item)
        self.width, self.length = move.sizes[across], move.sizes[-1]
        self.steps = (move.origin[-1], move.place[across])
        tiles = -(-self.length // self.lanes)
        self.parts = -(-tiles // _TILES)
        self.tiles = -(-tiles // self.parts)
        kept = [axis for axis in range(len(move.sizes) - 1) if axis != across]
        strips = -(-self.width // self.lanes)
        sizes = (*(move.sizes[a] for a in kept), self.parts, strips)
        changed = replace(
            move, sizes=sizes, origin=(*(move.origin[a] for a in kept), 0, 0),
            place=(*(move.place[a] for a in kept), 0, 0),
        )  # fmt: skip
        super().__init__(fn, changed, len(sizes))
        work = self.lanes * self.tiles * self.lanes * move.item
        self.chunk = min(self.total, chunk_for(work, self.total, _UNIT))
        self.units = -(-self.total // self.chunk)

    def unit(self, number: Value, image: Index) -> None:
        move, fn = self.move, self.fn
        assert move.source is not None
        source = fn.offset(move.source, times(image, move.lead[0]))
        target = fn.offset(move.target, times(image, move.lead[1]))

        def item(index: Value, _: list[Value]) -> Sequence[Value]:
            at = unravel(index, move.sizes)
            column = fn.minimum(times(at[-1], self.lanes), self.width - self.lanes)
            from_ = fn.offset(_on(source, at, move.origin) or source, times(column, move.item))
            to = fn.offset(fn.offset(target, _distance(at, move.place)), times(column, self.steps[1]))
            self._strip(times(at[-2], self.tiles), from_, to)
            return ()

        first = times(number, self.chunk)
        fn.loop(first, fn.minimum(plus(first, self.chunk), self.total), item)

    def _strip(self, first: Index, source: Value, target: Value) -> None:
        fn, count = self.fn, -(-self.length // self.lanes)

        def tile(index: Value, _: list[Value]) -> Sequence[Value]:
            row = fn.minimum(times(index, self.lanes), self.length - self.lanes)
            from_ = fn.offset(source, times(row, self.steps[0]))
            to = fn.offset(target, times(row, self.move.item))
            self._tile(from_, to)
            return ()

        fn.loop(first, fn.minimum(plus(first, self.tiles), count), tile)

    def _tile(self, source: Value, target: Value) -> None:
        fn, item = self.fn, self.move.item
        type = vector(self.lanes, _integer(item))
        rows = [fn.load(type, source, times(i, self.steps[0]), item) for i in range(self.lanes)]
        for i, column in enumerate(transpose(fn, rows)):
            fn.store(column, target, times(i, self.steps[1]), item)


def tile_lanes(fn: Function, item: int) -> int:
    """Rows and columns of a square that registers hold."""
    return min(BLOCK // 2, max(2, fn.target.lanes * 4 // item))


def _writer(fn: Function, move: Strided) -> _Writer:
    grid = len(move.sizes) - 1
    size = move.row
    while grid > 0 and size * move.sizes[grid - 1] <= _INNER:
        grid -= 1
        size *= move.sizes[grid]
    dense = move.place[-1] == move.item
    if dense and (move.source is None or move.origin[-1] in (0, move.item)):
        return _Rows(fn, move, grid)
    across = _turned(move)
    return _Writer(fn, move, grid) if across is None else _Tiles(fn, move, across)


def _turned(move: Strided) -> int | None:
    """The axis along which the source is dense, where it is not the target's and squares fit into both."""
    if move.source is None or move.place[-1] != move.item or move.origin[-1] in (0, move.item):
        return None
    lanes = tile_lanes(move.target.function, move.item)
    across = next((axis for axis, step in enumerate(move.origin) if step == move.item), None)
    return across if across is not None and min(move.sizes[across], move.sizes[-1]) >= lanes else None


def pieces(fn: Function, nbytes: int, piece: Callable[[Index, int], None]) -> None:
    """``piece(at, bytes)`` for all of a row in powers of two; the last two may overlap."""
    if nbytes < CHUNK:
        size = 1 << (nbytes.bit_length() - 1)
        piece(0, size)
        if size != nbytes:
            piece(nbytes - size, size)
        return
    whole = nbytes // CHUNK
    if whole <= _UNROLLED:
        for i in range(whole):
            piece(i * CHUNK, CHUNK)
    else:

        def several(index: Value, _: list[Value]) -> Sequence[Value]:
            piece(index * (2 * CHUNK), CHUNK)
            piece(index * (2 * CHUNK) + CHUNK, CHUNK)
            return ()

        fn.loop(0, whole // 2, several)
        if whole % 2:
            piece((whole - 1) * CHUNK, CHUNK)
    if nbytes % CHUNK:
        piece(nbytes - CHUNK, CHUNK)


def copy_row(fn: Function, nbytes: int, source: Value, target: Value) -> None:
    """Code that copies a dense row of known length."""
    pieces(fn, nbytes, lambda at, size: fn.store(fn.load(_bytes(size), source, at, 1), target, at, 1))


def _repeat(fn: Function, count: int, turn: Callable[[Index], None]) -> None:
    """A loop, written out where it is short."""
    if count <= _UNROLLED:
        for index in range(count):
            turn(index)
        return

    def body(index: Value, _: list[Value]) -> Sequence[Value]:
        turn(index)
        return ()

    fn.loop(0, count, body)


def _on(source: Value | None, at: Sequence[Index], strides: Sequence[Index]) -> Value | None:
    return None if source is None else source.function.offset(source, _distance(at, strides))


def _distance(at: Sequence[Index], strides: Sequence[Index]) -> Index:
    return distance(at, strides[: len(at)])


def _integer(nbytes: int) -> str:
    return f"i{8 * nbytes}"


def _bytes(count: int) -> str:
    """A type of this many bytes."""
    return _integer(count) if count <= 8 else vector(count, I8)
