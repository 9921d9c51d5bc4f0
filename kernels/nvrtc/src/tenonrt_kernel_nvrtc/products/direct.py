"""Convolutions and products of any kind and size: no tensor cores, no padding, every thread reads what it needs.

What libraries and the kernels on tensor cores leave: single precision, rows that do not begin where 16 bytes do,
groups, one or three axes, transposed convolutions, stacks that broadcast. A thread has a few rows by a few columns of
the result in registers, and reads through the cache: 6 loads for 32 products where tiles are largest. Where results are
few and sums long, as behind the last image of a small network, the warps of a block have parts of the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.growing import grow
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.products.direct_sums import WARP, Images, Sums, Tile, sums_of
from tenonrt_kernel_nvrtc.storage import C_TYPES, ROUNDING, Narrow, read, write
from tenonrt_kernel_nvrtc.tails import refuses_operands, tail

# By how few loads there are for a product.
_TILES = (Tile(8, 4), Tile(8, 2), Tile(4, 2), Tile(2, 2), Tile(1, 4), Tile(2, 1), Tile(1, 2), Tile(1, 1))
_BLOCK = 128
_TAIL = 5  # layers of a region, the first included
_SPLIT, _TERMS = 16, 64  # warps that divide the terms of a result, at most, and what each has at least
_BUSY = 132 * 512  # threads that keep a large GPU busy
_PRODUCTS = 1.5e13  # a second, of a large GPU's 3e13
_KINDS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatrixMultiply"})


class DirectKernel(CudaKernel):
    """In single precision row by row; in 16 bits what needs no sizes that are multiples of 8 to be taken."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield (layer,)
        region = grow(view, [layer], _TAIL)
        if len(region) > 1:
            yield region

    def refuses(self, problem: Problem) -> str:
        layer = problem.layer
        if layer.kind not in _KINDS:
            return "no convolution and no product"
        types = [problem.types[i] for i in (*layer.inputs, *layer.outputs) if i >= 0]
        if any(type.dtype != "float32" or not type.size for type in types):
            return "another element type than float32, or nothing to compute"
        given = {i for i in layer.inputs[1:] if i >= 0}
        if layer.kind != "MatrixMultiply" and (
            not given <= {*problem.constants} or layer.inputs[0] not in problem.activations
        ):
            return "weights or a bias that are computed, or an input that is constant"
        why = next(filter(None, (refusal(problem, follower) for follower in problem.layers[1:])), "")
        return why or refuses_operands(problem)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        tile = _tile(sums_of(problem, ["float32"] * len(problem.activations)))
        narrow = [] if _suits_tensor_cores(problem) else narrow
        storages = [(LINEAR, "float32"), *((n.rows, n.dtype) for n in narrow)]
        return [
            Tactic(f"{tile.key}:{precision}", (format,) * len(problem.activations), (format,), precision)
            for format, precision in storages
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sums = sums_of(problem, ["float32"] * len(problem.activations))
        tile = _tile(sums)
        busy = min(1.0, sums.threads(tile) * tile.split / _BUSY)
        return 3e-6 + sums.blocks * sums.rows * sums.columns * sums.terms / (_PRODUCTS * busy)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Filters as threads read them, weights [K, N], operands of products as they are, bias; in single precision."""
        problem = code.problem
        given = dict(zip(problem.constants, weights.constants, strict=True))
        sums = sums_of(problem, ["float32"] * len(problem.activations))
        made = []
        for number in _packed(problem):
            array = given[number]
            if isinstance(sums, Images) and number == problem.layer.inputs[1]:
                array = sums.packed(array, _tile(sums))
            elif problem.layer.kind == "FullyConnected" and number == problem.layer.inputs[1]:
                array = array.T
            made.append(np.ascontiguousarray(array, np.float32))
        return made

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "direct"

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        dtype = tactic.key.partition(":")[2]
        sums = sums_of(problem, [dtype] * len(problem.activations))
        tile, type, packed = _tile(sums), C_TYPES[dtype], _packed(problem)
        body = [
            *_begin(tile),
            f"const int across = {-(-sums.columns // (WARP * tile.columns))}, down = {-(-sums.rows // tile.rows)};",
            f"const int column = unit % across * {WARP * tile.columns} + t % {WARP};",
            f"const int row = unit / across % down * {tile.rows}, z = unit / across / down;",
            f"if (z >= {sums.blocks}) return;",
            f"float a[{tile.rows}][{tile.columns}] = {{}};",
            f"int at[{tile.columns}];",
            f"each (int j = 0; j < {tile.columns}; ++j) at[j] = min(column + {WARP} * j, {sums.columns - 1});",
            *sums.lines(tile, dtype),
            *(_together(tile) if tile.split > 1 else ()),
            f"each (int k = 0; k < {tile.rows}; ++k) each (int l = 0; l < {tile.columns}; ++l) {{",
            f"    const int i = row + k, j = column + {WARP} * l;",
            f"    if (i >= {sums.rows} || j >= {sums.columns}) continue;",
            f"    const int place = {sums.place()};",
            *(f"    {line}" for line in _finished(problem, sums, dtype)),
            "}",
        ]
        parameters = [f"{type} *out", *(f"const {type} *x{n}" for n in problem.activations)]
        parameters += [f"const float *w{n}" for n in packed]
        block = _BLOCK if tile.split == 1 else WARP * tile.split
        head = f'extern "C" __global__ __launch_bounds__({block}) void kernel({", ".join(parameters)})'
        lines = "\n    ".join(body)
        text = f'#define each _Pragma("unroll") for\n{head} {{\n    {lines}\n}}\n'
        info = {"grid": grid(sums.threads(tile) * tile.split, block), "block": (block,)}
        return text, info if tile.split == 1 else {**info, "shared": 4 * block * tile.rows * tile.columns}


def _tile(sums: Sums) -> Tile:
    """The largest that keeps the GPU busy, by warps that divide the terms among them where that takes it.

    Where nothing does, the smallest, the terms divided as far as they can be.
    """
    fitting = [t for t in _TILES if t.rows < 2 * sums.rows and WARP * (t.columns - 1) < sums.columns]
    for tile in fitting:
        wanted = -(-_BUSY // sums.threads(tile))
        most = min(_SPLIT, sums.terms // _TERMS)
        split = next((n for n in range(wanted, max(most, 1) + 1) if sums.divides(n)), 0)
        if split:
            return replace(tile, split=split)
    few = fitting[-1]
    most = min(_SPLIT, _BUSY // sums.threads(few), sums.terms // few.ahead)
    return replace(few, split=next(n for n in range(max(1, most), 0, -1) if sums.divides(n)))


def _begin(tile: Tile) -> list[str]:
    """Which results the warp has, and which thread of it this is."""
    if tile.split == 1:
        return [f"const int t = blockIdx.x * blockDim.x + threadIdx.x, unit = t / {WARP};"]
    return [
        "extern __shared__ unsigned char raw[];",
        f"const int unit = blockIdx.x, t = threadIdx.x % {WARP}, part = threadIdx.x / {WARP};",
    ]


def _together(tile: Tile) -> list[str]:
    """The first warp of a block adds the sums of the others to its own."""
    place = f"others[(({{}} * {tile.rows} + k) * {tile.columns} + l) * {WARP} + t]"
    every = f"each (int k = 0; k < {tile.rows}; ++k) each (int l = 0; l < {tile.columns}; ++l)"
    return [
        "float *const others = (float *)raw;",
        f"{every} {place.format('part')} = a[k][l];",
        "__syncthreads();",
        "if (part) return;",
        f"for (int p = 1; p < {tile.split}; ++p) {every} a[k][l] += {place.format('p')};",
    ]


def _packed(problem: Problem) -> list[int]:
    """The constants that are read from memory."""
    return [i for i in problem.layer.inputs if i in problem.constants]


def _finished(problem: Problem, sums: Sums, dtype: str) -> list[str]:
    """The bias, the tail and the storing of the element a[k][l]."""
    layer = problem.layer
    others = [i for i in problem.activations if i not in layer.inputs]
    lines, value = tail(problem, {f"x{n}": f"x{n}_v" for n in others}, half=dtype in ROUNDING)
    biased = len(layer.inputs) > 2 and layer.inputs[2] >= 0
    return [
        *(f"const float x{n}_v = {read(dtype, f'x{n}[place]')};" for n in others),
        f"float y{layer.outputs[0]} = a[k][l]{f' + w{layer.inputs[2]}[{sums.biased()}]' if biased else ''};",
        *lines,
        f"out[place] = {write(dtype, value)};",
    ]


def _suits_tensor_cores(problem: Problem) -> bool:
    """Whether kernels in half precision take it that want channels, or rows, in eights."""
    layer, shapes = problem.layer, [problem.types[i].concrete({}) for i in problem.layer.inputs[:2]]
    if layer.kind == "Convolution":
        return len(shapes[0]) == 4 and layer.attrs.groups == 1
    wanted = shapes[1:] if layer.kind == "FullyConnected" else shapes
    return layer.kind != "Deconvolution" and all(size % 8 == 0 for shape in wanted for size in shape[-2:])
