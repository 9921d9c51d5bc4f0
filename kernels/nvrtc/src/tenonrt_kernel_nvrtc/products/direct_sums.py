"""Sums of products of any size as what a thread of a direct kernel adds up: C lines for every kind of layer.

A result is seen as blocks of rows by columns. The threads of a warp have neighbouring columns, so that columns are
what lies side by side in memory, and all of them the same few rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from tenonrt.contracts import Array, Problem, transposed_crop, window_axes

from tenonrt_kernel_nvrtc.storage import C_TYPES, read
from tenonrt_kernel_nvrtc.windows import Window, windows

WARP = 32


@dataclass(frozen=True)
class Tile:
    """What a thread computes: ``rows``, and every 32nd of 32 * ``columns`` columns.

    split: warps of a block that have the same results, each a part of the terms.
    """

    rows: int
    columns: int
    split: int = 1

    @property
    def key(self) -> str:
        return f"{self.rows}x{self.columns}" + (f"/{self.split}" if self.split > 1 else "")

    @property
    def ahead(self) -> int:
        """Terms that are read before the first is added: where a GPU has few threads, each waits for fewer reads."""
        return min(32, max(4, 64 // (self.rows + self.columns)))


class Sums(ABC):
    """``blocks`` results of ``rows`` by ``columns``, each a sum of ``terms`` products."""

    blocks: int
    rows: int
    columns: int
    terms: int

    @abstractmethod
    def lines(self, tile: Tile, dtype: str) -> list[str]:
        """What adds all terms to a[i][j], or those of ``part``, for row ``row + i``, column ``column + 32 j``, block
        ``z``."""

    def divides(self, parts: int) -> bool:
        """Whether ``lines`` can add so many parts of the terms one by one."""
        return parts == 1

    @abstractmethod
    def place(self) -> str:
        """Where the element of row ``i`` and column ``j`` of block ``z`` lies in the result."""

    @abstractmethod
    def biased(self) -> str:
        """Which element of the bias is added to it."""

    def threads(self, tile: Tile) -> int:
        return self.blocks * -(-self.rows // tile.rows) * -(-self.columns // (WARP * tile.columns)) * WARP


@dataclass(frozen=True)
class Matrix:
    """An operand of products: its parameter, its element type, and how far apart rows (columns) and terms are.

    blocks: (size of an axis of blocks, elements from one to the next) from the outermost; 0 where all share it.
    """

    name: str
    dtype: str
    step: int
    term: int
    blocks: tuple[tuple[int, int], ...] = ()

    def begin(self) -> str:
        """The first element of the block ``z``."""
        terms, below = [], 1
        for size, stride in reversed(self.blocks):
            if stride:
                terms.append(f"z / {below} % {size} * {stride}")
            below *= size
        return " + ".join(terms) or "0"


@dataclass(frozen=True)
class Products(Sums):
    """Rows of one matrix by columns of another."""

    blocks: int
    rows: int
    columns: int
    terms: int
    by_row: Matrix
    by_column: Matrix
    turned: bool = False  # the result has what is a row here as a column

    def divides(self, parts: int) -> bool:
        return self.terms % parts == 0

    def lines(self, tile: Tile, dtype: str) -> list[str]:
        r, c, terms = self.by_row, self.by_column, self.terms // tile.split
        down, across = f"min(row + i, {self.rows - 1}) * {r.step}", f"at[j] * {c.step}"
        if tile.split > 1:
            down, across = f"{down} + part * {terms * r.term}", f"{across} + part * {terms * c.term}"
        return [
            f"const {C_TYPES[r.dtype]} *w_p[{tile.rows}]; const {C_TYPES[c.dtype]} *x_p[{tile.columns}];",
            f"each (int i = 0; i < {tile.rows}; ++i) w_p[i] = {r.name} + {r.begin()} + {down};",
            f"each (int j = 0; j < {tile.columns}; ++j) x_p[j] = {c.name} + {c.begin()} + {across};",
            *_added(
                tile, terms,
                [f"each (int i = 0; i < {tile.rows}; ++i) w[n][i] = {read(r.dtype, f'w_p[i][n * {r.term}]')};",
                 f"each (int j = 0; j < {tile.columns}; ++j) x[n][j] = {read(c.dtype, f'x_p[j][n * {c.term}]')};"],
                [f"each (int i = 0; i < {tile.rows}; ++i) w_p[i] += COUNT * {r.term};",
                 f"each (int j = 0; j < {tile.columns}; ++j) x_p[j] += COUNT * {c.term};"],
            ),
        ]  # fmt: skip

    def place(self) -> str:
        inner = f"j * {self.rows} + i" if self.turned else f"i * {self.columns} + j"
        return f"z * {self.rows * self.columns} + {inner}"

    def biased(self) -> str:
        return "i" if self.turned else "j"


@dataclass(frozen=True)
class Images(Sums):
    """Windows over images of any number of axes: rows are filters of a group, columns positions of an image.

    transposed: the windows spread what they meet: position o gets input i by tap t where i stride + t dilation = o +
    before.
    """

    images: int
    groups: int
    channels: int  # of a group
    rows: int
    axes: tuple[Window, ...]
    transposed: bool
    image: str
    filters: str

    @property
    def blocks(self) -> int:  # type: ignore[override]
        return self.images * self.groups

    @property
    def columns(self) -> int:  # type: ignore[override]
        return prod(axis.positions for axis in self.axes)

    @property
    def taps(self) -> int:
        return prod(axis.window for axis in self.axes)

    @property
    def terms(self) -> int:  # type: ignore[override]
        return self.taps * self.channels

    def lines(self, tile: Tile, dtype: str) -> list[str]:
        size, padded = prod(axis.size for axis in self.axes), -(-self.rows // tile.rows) * tile.rows
        wide = next(n for n in (4, 2, 1) if tile.rows % n == 0)
        tap = "0"
        for d, axis in enumerate(self.axes):
            tap = f"({tap} * {axis.window} + t{d})"
        place = f"(z % {self.groups} * {self.taps} + {tap}) * {self.channels * padded} + row"
        return [
            f"const {C_TYPES[dtype]} *const from = {self.image} + (long long)z * {self.channels * size};",
            *(f"for (int t{d} = 0; t{d} < {axis.window}; ++t{d}) {{" for d, axis in enumerate(self.axes)),
            f"const float *w_p = {self.filters} + {place};",
            f"const {C_TYPES[dtype]} *x_p[{tile.columns}]; bool there[{tile.columns}];",
            f"each (int j = 0; j < {tile.columns}; ++j) {{",
            *self._found(),
            "there[j] = inside; x_p[j] = from + (inside ? where : 0); }",
            *_added(
                tile, self.channels,
                [f"each (int i = 0; i < {tile.rows}; i += {wide}) {{",
                 f"    const auto v = fetch<float, {wide}>(w_p + n * {padded} + i);",
                 f"    each (int k = 0; k < {wide}; ++k) w[n][i + k] = v.e[k]; }}",
                 f"each (int j = 0; j < {tile.columns}; ++j)",
                 f"    x[n][j] = there[j] ? {read(dtype, f'x_p[j][n * {size}]')} : 0.f;"],
                [f"w_p += COUNT * {padded};", f"each (int j = 0; j < {tile.columns}; ++j) x_p[j] += COUNT * {size};"],
            ),
            "}" * len(self.axes),
        ]  # fmt: skip

    def _found(self) -> list[str]:
        """Where the window's tap of column ``at[j]`` lies, and whether it is inside of the image."""
        lines, below = ["bool inside = true; int where = 0;"], self.columns
        for d, axis in enumerate(self.axes):
            below //= axis.positions
            position = f"at[j] / {below} % {axis.positions}"
            if self.transposed:
                lines.append(f"{{ const int s = {position} + {axis.before} - t{d} * {axis.dilation};")
                lines.append(f"const int p = s / {axis.stride};")
                lines.append(f"inside &= s >= 0 && s % {axis.stride} == 0 && p < {axis.size};")
            else:
                lines.append(f"{{ const int p = {position} * {axis.stride} - {axis.before} + t{d} * {axis.dilation};")
                lines.append(f"inside &= p >= 0 && p < {axis.size};")
            lines.append(f"where = where * {axis.size} + p; }}")
        return lines

    def place(self) -> str:
        return f"(z * {self.rows} + i) * {self.columns} + j"

    def biased(self) -> str:
        return f"z % {self.groups} * {self.rows} + i"

    def packed(self, weights: Array, tile: Tile) -> Array:
        """Weights as [groups, taps, channels, rows], rows padded to those of a thread, in single precision."""
        grouped = weights.reshape(self.groups, -1, *weights.shape[1:2], self.taps)
        taps = grouped.transpose(0, 3, 1, 2) if self.transposed else grouped.transpose(0, 3, 2, 1)
        return np.ascontiguousarray(np.pad(taps, ((0, 0),) * 3 + ((0, -self.rows % tile.rows),)), np.float32)


def _added(tile: Tile, terms: int, reads: Sequence[str], moves: Sequence[str]) -> list[str]:
    """A loop over terms, so many at a time that what they read is on its way together.

    reads: of term n, into w[n] and x[n]; moves: to the terms COUNT further on. Distances that are known where pointers
    move leave compilers registers for what is read: they read one term after the other to save them.
    """
    ahead = min(tile.ahead, terms)
    lines = []
    for turns, count in ((terms // ahead, ahead), (min(1, terms % ahead), terms % ahead)):
        if turns:
            lines += [
                "#pragma unroll 1",
                f"for (int turn = 0; turn < {turns}; ++turn) {{",
                f"    float w[{count}][{tile.rows}], x[{count}][{tile.columns}];",
                f"    each (int n = 0; n < {count}; ++n) {{ {' '.join(reads)} }}",
                *(f"    {move.replace('COUNT', str(count))}" for move in moves),
                f"    each (int n = 0; n < {count}; ++n)",
                f"        each (int i = 0; i < {tile.rows}; ++i) each (int j = 0; j < {tile.columns}; ++j)",
                "            a[i][j] += w[n][i] * x[n][j];",
                "}",
            ]
    return lines


def sums_of(problem: Problem, dtypes: Sequence[str]) -> Sums:
    """What a supported problem adds up; ``dtypes``: of its activations, as they are stored."""
    layer = problem.layer
    if layer.kind in ("Convolution", "Deconvolution"):
        return _images(problem)
    stored = dict(zip(problem.activations, dtypes, strict=True))
    if layer.kind == "FullyConnected":
        (columns, terms), source = problem.types[layer.inputs[1]].concrete({}), problem.types[layer.inputs[0]]
        rows = prod(source.concrete({})[:-1])
        left = Matrix(f"x{layer.inputs[0]}", stored[layer.inputs[0]], terms, 1)
        return _oriented(Products(1, rows, columns, terms, left, Matrix(f"w{layer.inputs[1]}", "float32", 1, columns)))
    return _oriented(_stacks(problem, stored))


def _oriented(products: Products) -> Products:
    """With columns along the longer side: a warp has 32 of them or more."""
    p = products
    if p.columns >= min(WARP, p.rows):
        return p
    return replace(p, rows=p.columns, columns=p.rows, by_row=p.by_column, by_column=p.by_row, turned=True)


def _images(problem: Problem) -> Images:
    layer, transposed = problem.layer, problem.layer.kind == "Deconvolution"
    source, weights = problem.types[layer.inputs[0]].concrete({}), problem.types[layer.inputs[1]].concrete({})
    result, groups = problem.types[layer.outputs[0]].concrete({}), layer.attrs.groups
    axes = _transposed(problem, weights[2:]) if transposed else windows(problem, weights[2:])
    return Images(
        source[0], groups, source[1] // groups, result[1] // groups, tuple(axes), transposed, f"x{layer.inputs[0]}",
        f"w{layer.inputs[1]}",
    )  # fmt: skip


def _transposed(problem: Problem, sizes: Sequence[int]) -> list[Window]:
    """The windows of a transposed convolution; ``before``: what is cropped at the beginning."""
    layer, attrs = problem.layer, problem.layer.attrs
    given, made = (problem.types[i].concrete({})[2:] for i in (layer.inputs[0], layer.outputs[0]))
    axes = window_axes(sizes, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode)
    extra = attrs.output_padding or (0,) * len(sizes)
    return [
        Window(
            size, count, axis.window, axis.stride, axis.dilation,
            transposed_crop(axis, size, count, more, wanted=bool(attrs.output_shape)), 0,
        )
        for axis, size, count, more in zip(axes, given, made, extra, strict=True)
    ]  # fmt: skip


def _stacks(problem: Problem, stored: dict[int, str]) -> Products:
    """Of two stacks of matrices; a vector is a row before, a column behind."""
    attrs, (first, second) = problem.layer.attrs, problem.layer.inputs
    a, b = (problem.types[i].concrete({}) for i in (first, second))
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    rows, terms = (left[-1], left[-2]) if attrs.transpose_a else left[-2:]
    columns = right[-2] if attrs.transpose_b else right[-1]
    outer = np.broadcast_shapes(left[:-2], right[:-2])

    def matrix(number: int, shape: Sequence[int], step: int, term: int) -> Matrix:
        name = f"x{number}" if number in stored else f"w{number}"
        return Matrix(name, stored.get(number, "float32"), step, term, _strides(shape, outer))

    by_row = matrix(first, left, *((1, rows) if attrs.transpose_a else (terms, 1)))
    by_column = matrix(second, right, *((terms, 1) if attrs.transpose_b else (1, columns)))
    return Products(prod(outer), rows, columns, terms, by_row, by_column)


def _strides(shape: Sequence[int], outer: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """For each axis of the stack its size, and how far apart its matrices are in an operand."""
    own, below, found = shape[:-2], prod(shape[-2:]), list[tuple[int, int]]()
    for size, mine in zip(reversed(outer), [*reversed(own), *[1] * (len(outer) - len(own))], strict=True):
        found.append((size, 0 if mine == 1 else below))
        below *= mine
    return tuple(reversed(found))
