"""Convolutions by constant weights whose windows are gathered by tensor maps of images.

The product of `mapped`: a stage of k is some channels of one tap of the window, of which a map knows the pixels of a
tile, whatever lines, images and borders are between them, so that no thread computes an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Code, Executable, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.growing import product_regions
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.products.gathering import mapped_rows, refuses_windows, stage_depth
from tenonrt_kernel_nvrtc.products.mapped_finish import BEYOND, Finish
from tenonrt_kernel_nvrtc.products.mapped_source import Operands, source
from tenonrt_kernel_nvrtc.products.mapped_tiles import DEPTH, Tile, best, every, fits
from tenonrt_kernel_nvrtc.products.problem import geometry, packed_branches, parts_of, product_tactic, refuses
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of
from tenonrt_kernel_nvrtc.tensor_maps import MappedLaunch, Matrix

_TAIL = 5  # layers of a region, the convolution included
_FEWEST = 16  # channels: of fewer most of a stage would be zeros
_MOST = 8  # tiles that are tried


@dataclass(frozen=True)
class WindowTile(Tile):
    """depth: channels in a stage, 64, or 32 where less of them are zeros then."""

    depth: int

    @property
    def key(self) -> str:
        return f"{super().key}:{self.depth}"

    @property
    def row_bytes(self) -> int:
        return 2 * self.depth


class WindowProductKernel(CudaKernel):
    """Stored in 16 bits, sums in single precision; the tail reads tensors of the result's shape, or numbers."""

    aggregates: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return product_regions(view, layer, _TAIL)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no tensor maps and wgmma"
        why = refuses(problem)
        if why or problem.layer.kind != "Convolution":
            return why or "no convolution"
        g = geometry(problem)
        if g.whole or g.channels < _FEWEST:
            return "pixels one by one" if g.whole else f"{g.channels} channels"
        return refuses_windows((g.rows, g.columns))

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        found = _tiles(problem) if narrow else []
        return [product_tactic(problem, tile.key, n) for n in narrow for tile in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return _parsed(tactic).seconds(*_sizes(problem))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [columns, taps, channels], channels padded to stages of k; bias [columns, and what tiles read beyond
        it] in single precision."""
        depth, given = _parsed(code.tactic).depth, dict(zip(code.problem.constants, weights.constants, strict=True))
        matrix, bias = packed_branches(parts_of(code.problem), given, depth, narrow_of(code.tactic), depth)
        return [matrix, np.concatenate([bias, np.zeros(BEYOND)]).astype(np.float32)]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return f"{narrow_of(tactic).dtype} {_parsed(tactic).depth}"

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        tile, ptx, (m, n, stages) = _parsed(tactic), narrow_of(tactic).ptx, _sizes(problem)
        multiplied = Operands(
            m, n, stages, tile.depth, 16, f"f32.{ptx}.{ptx}", "float", ", 1, 1, 0, 0", geometry(problem)
        )  # fmt: skip
        return source(multiplied, tile, Finish(problem, parts_of(problem), m, n, tile)), {
            "grid": (tile.grid(m, n),), "block": (tile.threads,), "shared": tile.shared,
            "pitches": tuple(range(len(problem.outputs) + len(problem.activations))),
        }  # fmt: skip

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem, tile, info = code.problem, _parsed(code.tactic), code.info
        columns, k = packed[0].shape
        return MappedLaunch(
            code.blob, packed, mapped_rows(geometry(problem), tile.rows // tile.across, tile.depth, 2),
            Matrix(columns, k, tile.columns // tile.down, tile.depth),
            problem.activations.index(problem.layer.inputs[0]), grid=info["grid"], block=info["block"],
            pitches=info["pitches"], shared=info["shared"], early=info["early"],
        )  # fmt: skip


def _parsed(tactic: Tactic) -> WindowTile:
    return WindowTile.parsed(shape_of(tactic))


def _sizes(problem: Problem) -> tuple[int, int, int]:
    """Rows, columns, and stages of k."""
    g = geometry(problem)
    stages = g.taps * -(-g.channels // stage_depth(g.channels, DEPTH))
    return g.m, sum(part.columns for part in parts_of(problem)), stages


def _tiles(problem: Problem) -> list[WindowTile]:
    """Rows are not shared: those of a tile across are the same pixels, which the cache has."""
    m, n, stages = _sizes(problem)
    make = partial(WindowTile, depth=stage_depth(geometry(problem).channels, DEPTH))
    return best([tile for tile in every(make) if tile.across == 1 and fits(tile, m, n)], m, n, stages)[:_MOST]
