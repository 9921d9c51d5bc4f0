"""Products by constant weights whose tiles are copied by tensor maps, to all blocks of a cluster that read them.

Beside `product`, whose threads copy what they multiply: for more rows, where the second-level cache gives blocks too
little. Rows are pixels as they lie, so that convolutions have windows of one element. A normalization of whole rows
can follow: the blocks across a cluster have a row together, and tell each other its mean and squares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Executable,
    GraphView,
    Layer,
    Problem,
    ProblemLayer,
    Tactic,
    Weights,
    only_reader,
)

from tenonrt_kernel_nvrtc.growing import product_regions
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.products.mapped_finish import BEYOND, Finish
from tenonrt_kernel_nvrtc.products.mapped_source import Operands, source
from tenonrt_kernel_nvrtc.products.mapped_tiles import DEPTH, Tile, tiles
from tenonrt_kernel_nvrtc.products.problem import geometry, packed_branches, parts_of, product_tactic, refuses
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of
from tenonrt_kernel_nvrtc.tensor_maps import MappedLaunch, Matrix

_TAIL = 5  # layers of a region, the product included, but for a normalization
_NORM = "LayerNormalization"


class MappedProductKernel(CudaKernel):
    """Stored in 16 bits, sums in single precision; the tail reads tensors of the result's shape, or numbers."""

    aggregates: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        """Those of a product, and the longest of them normalized."""
        found = product_regions(view, layer, _TAIL)
        yield from found
        whole = found[-1]
        norm = only_reader(view, whole[-1].outputs[0])
        if norm is not None and norm.kind == _NORM and norm.inputs[0] is whole[-1].outputs[0]:
            yield (*whole, norm)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no tensor maps and wgmma"
        plain, norm = _parted(problem)
        why = refuses(plain) or (_refuses_norm(problem, plain, norm) if norm is not None else "")
        if why:
            return why
        return "" if geometry(plain).whole else "rows that are gathered"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        found = _tiles(problem) if narrow else []
        return [product_tactic(problem, tile.key, n) for n in narrow for tile in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return Tile.parsed(shape_of(tactic)).seconds(*_sizes(_parted(problem)[0]))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [columns, channels], channels padded to stages of k; bias [columns, and what tiles read beyond it],
        then scale and shift of a normalization, in single precision."""
        plain, norm = _parted(code.problem)
        given = dict(zip(code.problem.constants, weights.constants, strict=True))
        matrix, bias = packed_branches(parts_of(plain), given, DEPTH, narrow_of(code.tactic))
        parameters = [given[i] for i in norm.inputs[1:]] if norm is not None else []
        return [matrix, np.concatenate([bias, np.zeros(BEYOND), *parameters]).astype(np.float32)]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return narrow_of(tactic).dtype

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        tile, (plain, norm) = Tile.parsed(shape_of(tactic)), _parted(problem)
        g, parts = geometry(plain), parts_of(plain)
        m, n, k = _sizes(plain)
        operands = len(problem.outputs) + len(problem.activations)
        ptx = narrow_of(tactic).ptx
        multiplied = Operands(m, n, k, DEPTH, 16, f"f32.{ptx}.{ptx}", "float", ", 1, 1, 0, 0")
        return source(multiplied, tile, Finish(plain, parts, m, n, tile, norm)), {
            "grid": (tile.grid(m, n),), "block": (tile.threads,), "shared": tile.shared,
            "pitches": tuple(range(operands)) if problem.layer.kind == "Convolution" else (),
            "source": problem.activations.index(problem.layer.inputs[0]),
            "rows": (m, g.channels, tile.rows // tile.across, DEPTH),
            "weights": (n, k * DEPTH, tile.columns // tile.down, DEPTH),
        }  # fmt: skip

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        info = code.info
        return MappedLaunch(
            code.blob, packed, Matrix(*info["rows"]), Matrix(*info["weights"]), info["source"], grid=info["grid"],
            block=info["block"], pitches=info["pitches"], shared=info["shared"], early=info["early"],
        )  # fmt: skip


def _parted(problem: Problem) -> tuple[Problem, ProblemLayer | None]:
    """The problem without the normalization at its end, and that."""
    last = problem.layers[-1]
    if last.kind != _NORM or len(problem.layers) == 1:
        return problem, None
    return msgspec.structs.replace(problem, layers=problem.layers[:-1], outputs=(last.inputs[0],)), last


def _sizes(problem: Problem) -> tuple[int, int, int]:
    """Rows, columns, and stages of k."""
    g = geometry(problem)
    return g.m, sum(part.columns for part in parts_of(problem)), -(-g.channels // DEPTH)


def _tiles(problem: Problem) -> list[Tile]:
    plain, norm = _parted(problem)
    m, n, k = _sizes(plain)
    return tiles(m, n, k, whole_rows=norm is not None)


def _refuses_norm(problem: Problem, plain: Problem, norm: ProblemLayer) -> str:
    if problem.outputs != tuple(norm.outputs) or problem.layer.kind != "FullyConnected" or len(parts_of(plain)) != 1:
        return "an interior result is wanted, statistics, or a normalization of something else than one product's rows"
    parameters, size = norm.inputs[1:], _sizes(plain)[1]
    if norm.attrs.axis not in (-1, problem.types[norm.inputs[0]].rank - 1):
        return "a normalization of another axis than the last"
    if len(parameters) != 2 or any(i not in problem.constants or problem.types[i].size != size for i in parameters):
        return "scale or bias that are missing or computed"
    return "" if _tiles(problem) else f"rows of {size} columns, which no cluster divides"
