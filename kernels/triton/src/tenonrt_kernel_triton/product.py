"""Products by constant weights on tensor cores: fully connected layers and 1×1 convolutions with what follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Format, GraphView, Layer, Problem, Tactic, Weights, numpy_dtype

from tenonrt_kernel_triton.kernel import Program, TritonKernel
from tenonrt_kernel_triton.product_problem import TAIL, Product, product_of, refuses
from tenonrt_kernel_triton.product_tiles import Tile, tiles

# The floats of 16 bits that tensors are stored in, in Triton's words.
NARROW = {"float16": "*fp16", "bfloat16": "*bf16"}


class ProductKernel(TritonKernel):
    """Stored in 16 bits, sums in single precision; bias, a sum with one tensor, then an activation."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return TAIL.regions(view, layer)

    def refuses(self, problem: Problem) -> str:
        return refuses(problem)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.tactics_within(problem, lambda precision: True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        p, count = product_of(problem), len(problem.activations)
        strided = tuple(range(count)) if p.images else ()
        found = []
        for stored in filter(permits, NARROW):
            format = Format((0, 2, 3, 1), ((1, 8),), stored) if p.images else Format(dtype=stored)
            behind = "" if stored == "float16" else f" {stored}"
            found += [
                Tactic(tile.key + behind, (format,) * count, (format,), stored, reads_strided=strided,
                       writes_strided=strided[:1])
                for tile in tiles(p.m, p.n, p.k)
            ]  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        p = product_of(problem)
        return _tile(tactic).seconds(p.m, p.n, p.k)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [n, k] in 16 bits, bias [n] in single precision; zeros where channels are padded or there is none."""
        problem, layer, p = code.problem, code.problem.layer, product_of(code.problem)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        matrix = given[layer.inputs[1]].reshape(p.channels, -1)
        biased = len(layer.inputs) > 2 and layer.inputs[2] >= 0
        bias = given[layer.inputs[2]].reshape(-1) if biased else np.zeros(p.channels)
        rows = (0, p.n - p.channels)
        packed = np.pad(matrix, (rows, (0, p.k - matrix.shape[1]))).astype(numpy_dtype(code.tactic.precision))
        return [packed, np.pad(bias, rows).astype(np.float32)]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return tactic.precision

    def program(self, problem: Problem, tactic: Tactic) -> Program:
        from tenonrt_kernel_triton.product_program import product

        p, tile = product_of(problem), _tile(tactic)
        y, x = 0, 1 + problem.activations.index(problem.layer.inputs[0])
        z = () if p.added is None else (1 + problem.activations.index(p.added),)
        w = 1 + len(problem.activations)
        pitches = (y, x, *z) if p.images else ()
        operands = (y, x, *z, w, w + 1)
        return Program(
            product, (tile.programs(p.m, p.n),),
            types=(NARROW[tactic.precision],) * (len(operands) - 1) + ("*fp32", "i32") + ("i32",) * len(pitches),
            constants=_constants(p, tile), warps=tile.warps, stages=tile.stages, operands=operands, numbers=(p.m,),
            pitches=pitches, pitch_step=8,
        )  # fmt: skip


def _tile(tactic: Tactic) -> Tile:
    return Tile.parsed(tactic.key.partition(" ")[0])


def _constants(p: Product, tile: Tile) -> dict[str, Any]:
    """What the code knows: all but rows, and the pitches of images."""
    absent = {} if p.added is not None else {"z": None, "z_pitch": 0}
    dense = {} if p.images else {"y_pitch": p.n, "x_pitch": p.k, "z_pitch": p.n}
    return {
        **dense, **absent, "K": p.k, "N": p.n, "CHANNELS": p.channels,
        "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": tile.depth,
        "FUNCTION": p.function, "ALPHA": p.alpha, "BETA": p.beta,
    }  # fmt: skip
