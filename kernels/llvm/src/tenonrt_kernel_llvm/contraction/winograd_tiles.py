"""One tile of an image into its points and back, at borders too: nothing outside of the image is read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm.contraction.epilogue import Epilogue, Place
from tenonrt_kernel_llvm.contraction.geometry import Axis, Geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.contraction.winograd_transforms import from_points, matrices_of, points_of, to_points
from tenonrt_kernel_llvm.emitter import I64, Function, Index, Value, vector
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Panel:
    """Matrices [blocks, tiles, 16], one for each point, in memory."""

    points: int
    blocks: int
    tiles: int

    @property
    def step(self) -> int:
        """Bytes from a matrix to the next: an odd number of cache lines, so that the points of one tile do not all
        fall into the same few sets of the cache."""
        return (self.blocks * self.tiles | 1) * BLOCK_BYTES

    @property
    def block(self) -> int:
        """Bytes from a block of channels to the next."""
        return self.tiles * BLOCK_BYTES

    @property
    def nbytes(self) -> int:
        return self.points * self.step


@dataclass(frozen=True)
class Grid:
    """Tiles of size x size outputs over an image, the last ones reaching over its edges."""

    geometry: Geometry
    size: int

    @property
    def stride(self) -> int:
        return self.geometry.y.stride

    @property
    def side(self) -> int:
        """Inputs along one axis of a tile, and its points."""
        return points_of(self.size, self.stride)

    def matrix(self, fn: Function, point: Value) -> Value:
        """The number of the weights that a point is multiplied with."""
        different = matrices_of(self.size)
        if different == self.side:
            return point
        row, column = (fn.as_value(fn.minimum(n, different - 1), I64) for n in (point // self.side, point % self.side))
        return row * different + column

    @property
    def matrices(self) -> int:
        """Different matrices of weights."""
        return matrices_of(self.size) ** 2

    @property
    def points(self) -> int:
        return self.side**2

    @property
    def rows(self) -> int:
        return -(-self.geometry.y.output // self.size)

    @property
    def columns(self) -> int:
        return -(-self.geometry.x.output // self.size)

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    def inside(self, axis: Axis) -> bool:
        """Whether no tile reaches over an edge of the input along this axis."""
        return (
            axis.padding == 0 and (-(-axis.output // self.size) - 1) * self.size * self.stride + self.side <= axis.size
        )


class TileTransforms:
    """Writes the code that transforms single tiles. Its memory on the stack is the calling thread's own."""

    def __init__(self, fn: Function, grid: Grid) -> None:
        self.fn, self.grid = fn, grid
        side, lanes = grid.side, fn.target.lanes
        self._lanes = lanes
        self._type = vector(lanes)
        self._column_pass = fn.stack(side * side * BLOCK_BYTES)
        self._zeros = fn.stack(side * BLOCK_BYTES)  # a row of padding
        for at in range(0, side * BLOCK_BYTES, 4 * lanes):
            fn.store(fn.zero(self._type), self._zeros, at)

    def read(self, block: Value, tile: Value, target: Value, step: int) -> None:
        """Tile number ``tile`` of a block of channels to ``target``, its points ``step`` bytes apart."""
        fn, grid = self.fn, self.grid
        y, x = self._corner(tile)
        first_row = y * grid.stride + -grid.geometry.y.padding
        first_column = x * grid.stride + -grid.geometry.x.padding
        rows = self._rows(block, first_row, first_column)
        columns = self._columns(first_column)

        def part(number: Value, _: list[Value]) -> Sequence[Value]:
            shift = number * (4 * self._lanes)
            self._read_columns([fn.offset(row, shift) for row in rows], columns)
            self._write_points(fn.offset(target, shift), step)
            return ()

        fn.loop(0, BLOCK // self._lanes, part)

    def _corner(self, tile: Value) -> tuple[Value, Value]:
        """The first output of a tile."""
        grid = self.grid
        return tile // grid.columns * grid.size, tile % grid.columns * grid.size

    def _rows(self, block: Value, y: Value, x: Value) -> list[Value]:
        """Where the rows of a tile begin; those outside of the image are zeros elsewhere."""
        fn, axis = self.fn, self.grid.geometry.y
        row_bytes = self.grid.geometry.x.size * BLOCK_BYTES
        corner = fn.offset(fn.offset(block, y * row_bytes), x * BLOCK_BYTES)
        rows = [fn.offset(corner, row * row_bytes) for row in range(self.grid.side)]
        if self.grid.inside(axis):
            return rows
        exists = [fn.compare("ult", y + row, axis.size) for row in range(self.grid.side)]
        return [fn.select(found, row, self._zeros) for found, row in zip(exists, rows, strict=True)]

    def _columns(self, x: Value) -> tuple[Index, Index]:
        """The columns [a, b) of a tile that are inside of the image."""
        fn, side, axis = self.fn, self.grid.side, self.grid.geometry.x
        if self.grid.inside(axis):
            return 0, side
        return fn.minimum(side, fn.maximum(0, -x)), fn.minimum(side, fn.maximum(0, axis.size - x))

    def _read_columns(self, rows: Sequence[Value], columns: tuple[Index, Index]) -> None:
        """Transform down the columns."""
        fn, side, each = self.fn, self.grid.side, 4 * self._lanes

        def outside(column: Value, _: list[Value]) -> Sequence[Value]:
            at = fn.offset(self._column_pass, column * each)
            for row in range(side):
                fn.store(fn.zero(self._type), at, row * side * each)
            return ()

        def inside(column: Value, _: list[Value]) -> Sequence[Value]:
            shift = column * BLOCK_BYTES
            points = to_points(fn, self.grid.size, self.grid.stride, [fn.load(self._type, row, shift) for row in rows])
            at = fn.offset(self._column_pass, column * each)
            for row, value in enumerate(points):
                fn.store(value, at, row * side * each)
            return ()

        fn.loop(0, columns[0], outside)
        fn.loop(*columns, inside)
        fn.loop(columns[1], side, outside)

    def _write_points(self, target: Value, step: int) -> None:
        """Transform along the rows."""
        fn, side, each = self.fn, self.grid.side, 4 * self._lanes

        def one(row: Value, _: list[Value]) -> Sequence[Value]:
            at, to = fn.offset(self._column_pass, row * (side * each)), fn.offset(target, row * (side * step))
            loaded = [fn.load(self._type, at, column * each) for column in range(side)]
            for column, value in enumerate(to_points(fn, self.grid.size, self.grid.stride, loaded)):
                fn.store(value, to, column * step)
            return ()

        fn.loop(0, side, one)

    def write(self, source: Value, step: int, tile: Value, image: Value, block: Value, epilogue: Epilogue) -> None:
        """A tile's points, ``step`` bytes apart, to those of its outputs that exist, through the epilogue."""
        fn, grid = self.fn, self.grid
        y, x = self._corner(tile)
        self._sum_columns(source, step)
        height, width = grid.geometry.y.output, grid.geometry.x.output
        corner = block * (height * width * BLOCK_BYTES) + y * (width * BLOCK_BYTES) + x * BLOCK_BYTES

        def row(number: Value, _: list[Value]) -> Sequence[Value]:
            sums = self._sum_row(number)
            place = Place(image, block, corner + number * (width * BLOCK_BYTES))
            self._store(sums, place, tile, epilogue)
            return ()

        rows = grid.size if height % grid.size == 0 else fn.minimum(grid.size, height - y)
        fn.loop(0, rows, row)

    def _sum_columns(self, source: Value, step: int) -> None:
        fn, size, side = self.fn, self.grid.size, self.grid.side

        def part(number: Value, _: list[Value]) -> Sequence[Value]:
            shift = number * (4 * self._lanes)
            base, out = fn.offset(source, shift), fn.offset(self._column_pass, shift)

            def one(column: Value, _: list[Value]) -> Sequence[Value]:
                at, to = fn.offset(base, column * step), fn.offset(out, column * BLOCK_BYTES)
                points = [fn.load(self._type, at, row * side * step) for row in range(side)]
                for row, value in enumerate(from_points(fn, size, self.grid.stride, points)):
                    fn.store(value, to, row * side * BLOCK_BYTES)
                return ()

            fn.loop(0, side, one)
            return ()

        fn.loop(0, BLOCK // self._lanes, part)

    def _sum_row(self, row: Value) -> list[Value]:
        """The outputs of one row of a tile, 16 channels each, computed a register at a time: registers are few."""
        fn, side = self.fn, self.grid.side
        at = fn.offset(self._column_pass, row * (side * BLOCK_BYTES))
        parts = []
        for part in range(BLOCK // self._lanes):
            shift = part * 4 * self._lanes
            points = [fn.load(self._type, at, column * BLOCK_BYTES + shift) for column in range(side)]
            parts.append(from_points(fn, self.grid.size, self.grid.stride, points))
        return [self._join([part[output] for part in parts]) for output in range(self.grid.size)]

    def _join(self, parts: Sequence[Value]) -> Value:
        while len(parts) > 1:
            lanes = range(2 * BLOCK // len(parts))
            parts = [self.fn.shuffle(a, b, lanes) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _store(self, sums: Sequence[Value], place: Place, tile: Value, epilogue: Epilogue) -> None:
        """The last tile of a row may have fewer columns."""
        fn, grid = self.fn, self.grid
        steps = (BLOCK_BYTES, 0)
        rest = grid.geometry.x.output % grid.size

        def store(values: Sequence[Value]) -> None:
            epilogue.store(values, 1, place, steps)

        if rest == 0:
            store(sums)
        elif grid.columns == 1:
            store(sums[:rest])
        else:
            last = fn.compare("eq", tile % grid.columns, grid.columns - 1)
            fn.when(last, lambda: store(sums[:rest]), lambda: store(sums))
