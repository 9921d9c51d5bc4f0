"""Attention in one kernel on tensor cores: a warp has 16 queries, a block goes through the keys 64 at a time.

Scores stay in registers; the maximum and the sum of a row are corrected as larger ones come (Milakov and Gimelshein,
"Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention", 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tenonrt.contracts import LINEAR, Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.attention.graph import Attention, Operand, read_attention, regions
from tenonrt_kernel_nvrtc.attention.source import INSTRUCTIONS, Shape, body
from tenonrt_kernel_nvrtc.attention.wide import DEPTH, Wide, functions
from tenonrt_kernel_nvrtc.attention.wide import body as wide_body
from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.quantizing import Quantizing
from tenonrt_kernel_nvrtc.storage import Narrow, shape_of

_TILES = (64, 128)  # keys at a time
_ROWS, _PARTS = (1, 2, 4, 8), (1, 2, 4)
_MOST_WARPS = 8
_SHARED = 48 << 10  # bytes that a block has without asking for more


class AttentionKernel(CudaKernel):
    """Heads of 16 to 128 columns, whose elements follow each other in memory, with a mask that is added.

    The result is in narrow floats, or quantized.
    """

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield from regions(view, layer)

    def refuses(self, problem: Problem) -> str:
        found = read_attention(problem)
        if isinstance(found, str):
            return found
        if found.depth % 16 or found.depth > 128:
            return f"heads of {found.depth} columns"
        for operand in (found.query, found.key, found.value, Operand(0, found.result)):
            if operand.strides[3] != 1 or any(stride % 8 for stride in operand.strides[:3]):
                return "rows of heads that do not follow each other, or do not start where 16 bytes do"
        return "" if found.quantize is None else refusal(problem, found.quantize)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        found = read_attention(problem)
        assert isinstance(found, Attention)
        count = len(problem.activations)
        keys = [*(shape.key for shape in _wide(found)), *(shape.key for shape in _shapes(found))]
        quantized = found.quantize is not None
        return [
            Tactic(n.key(key), (n.rows,) * count, (LINEAR if quantized else n.rows,), n.dtype)
            for n in narrow
            for key in keys
        ]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Of what quantizes the result, scale and zero point."""
        given, quantizing = dict(zip(code.problem.constants, weights.constants, strict=True)), _quantizing(code.problem)
        return [] if quantizing is None else [given[i] for i in quantizing.packed]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        found = read_attention(problem)
        assert isinstance(found, Attention)
        key = shape_of(tactic)
        shape = Wide.parsed(key) if key.startswith("wide") else Shape.parsed(key)
        rows = shape.rows if isinstance(shape, Wide) else 16 * shape.rows
        to = _quantizing(problem)
        parameters = ["narrow_t *out" if to is None else f"{to.ctype} *out"]
        parameters += [f"const narrow_t *x{i}" for i in problem.activations]
        parameters += [] if to is None else to.parameters
        bounds = f"{shape.threads}, {shape.resident}" if isinstance(shape, Wide) else f"{shape.threads}"
        head = f'extern "C" __global__ void __launch_bounds__({bounds}) kernel({", ".join(parameters)})'
        if isinstance(shape, Wide):
            code = functions(), wide_body(found, shape, to)
        else:
            code = INSTRUCTIONS, body(found, shape, to)
        grid = (-(-found.rows // rows), found.heads, found.batch)
        return f"{code[0]}{head} {{{code[1]}\n}}\n", {"grid": grid, "block": (shape.threads,)}


def _quantizing(problem: Problem) -> Quantizing | None:
    layer = next((layer for layer in problem.layers if layer.kind == "Quantize"), None)
    return None if layer is None else Quantizing(problem, layer)


def _wide(a: Attention) -> list[Wide]:
    """Where warpgroups can multiply: heads whose rows are those of the swizzle, on Hopper."""
    if architecture() != "sm_90a" or a.depth != DEPTH:
        return []
    shapes = (Wide(1, 1), Wide(1, 4), Wide(2, 1), Wide(2, 2))
    return [wide for wide in shapes if wide.warpgroups == 1 or a.rows > 64]


def _shapes(a: Attention) -> list[Shape]:
    """Those that fit, without warps that have nothing to do."""
    return [
        shape
        for shape in (Shape(rows, parts, tile) for rows in _ROWS for parts in _PARTS for tile in _TILES)
        if shape.rows * shape.parts <= _MOST_WARPS
        if shape.rows == 1 or 16 * shape.rows < 2 * a.rows
        if shape.tile == _TILES[0] or shape.tile < a.keys + _TILES[0]
        if shape.parts == 1 or shape.tile // shape.parts < a.keys
        if shape.merging(a.depth) <= shape.shared(a.depth) <= _SHARED
    ]
