"""Products by constant weights on Hopper's tensor cores: convolutions, fully connected layers, siblings of them.

What cuDNN and cuBLASLt leave to gain at small batches: k is split among the blocks of a cluster, weights are on their
way while the kernel before still runs, and siblings are one kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.growing import product_regions
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.products.problem import geometry, packed_branches, parts_of, product_tactic, refuses
from tenonrt_kernel_nvrtc.products.source import source
from tenonrt_kernel_nvrtc.products.tiles import DEPTH, Tile, blocks_of, tiles
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of

TAIL = 5  # layers of a region, the product included


class ProductKernel(CudaKernel):
    """Stored in 16 bits, sums in single precision; the tail reads tensors of the result's shape, or numbers."""

    aggregates: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return product_regions(view, layer, TAIL)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no wgmma"
        return refuses(problem)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        if not narrow:
            return ()
        found = tiles(geometry(problem), sum(part.columns for part in parts_of(problem)))
        return [product_tactic(problem, tile.key, n) for n in narrow for tile in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        g, n = geometry(problem), sum(part.columns for part in parts_of(problem))
        return Tile.parsed(shape_of(tactic)).seconds(g.m, n, blocks_of(g))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [columns, k], k the channels of all taps padded to blocks, and bias [columns] in single precision."""
        given = dict(zip(code.problem.constants, weights.constants, strict=True))
        return packed_branches(parts_of(code.problem), given, DEPTH, narrow_of(code.tactic))

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return narrow_of(tactic).dtype

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        return self.written(problem, tactic)

    def written(self, problem: Problem, tactic: Tactic, factors: str = "") -> tuple[str, dict[str, Any]]:
        """What `generate` returns; ``factors``: the name of what scales the channels of each image."""
        tile, g, parts = Tile.parsed(shape_of(tactic)), geometry(problem), parts_of(problem)
        columns = sum(part.columns for part in parts)
        operands = len(problem.outputs) + len(problem.activations)
        images = problem.layer.kind == "Convolution"
        return source(problem, parts, g, tile, factors), {
            "grid": (tile.grid(g.m, columns),), "block": (tile.threads,), "shared": tile.shared,
            "pitches": tuple(range(operands)) if images else (),
        }  # fmt: skip
