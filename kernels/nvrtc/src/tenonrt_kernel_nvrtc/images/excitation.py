"""Two small products in a row, as in squeeze-and-excitation: means of channels to a few numbers, and back to gates.

Each alone is a launch for less than a microsecond's work. Here the blocks of a cluster share an image: each adds up
some of its pixels where the means are not there yet, computes some of the numbers between for all of them, then its
share of the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.clusters import CLUSTERS
from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.images.excitation_problem import Pair, pair_of, pair_regions
from tenonrt_kernel_nvrtc.images.excitation_source import Shape, source
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of

_MOST_BETWEEN, _MOST_GIVEN = 256, 2048  # numbers between the products; numbers that are given or made
_MOST_ROWS = 1024
_MOST_BLOCKS = 528  # of clusters: four times as many as a large GPU has multiprocessors
_SHAPES = ((1, 256), (1, 512), (2, 256), (4, 256), (8, 128), (8, 256))  # blocks of a cluster, threads of each
_OF_IMAGES = ((1, 512), (1, 1024), (2, 512), (4, 512), (8, 256), (8, 512), (8, 1024))


class ExcitationKernel(CudaKernel):
    """By constant weights, of images of one pixel, of means of images, or of rows; sums are in single precision."""

    begins_itself: ClassVar[bool] = True
    library: ClassVar[str] = CLUSTERS

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return pair_regions(view, layer)

    def refuses(self, problem: Problem) -> str:
        pair = pair_of(problem)
        if isinstance(pair, str):
            return pair
        if pair.rows > _MOST_ROWS or pair.middle > _MOST_BETWEEN or max(pair.given, pair.made) > _MOST_GIVEN:
            return "products that are not small"
        return next(filter(None, (refusal(problem, layer) for layer in (*pair.between, *pair.behind))), "")

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        pair = _pair(problem)
        strided = (0,) if pair.pixels else ()
        found = list[Tactic]()
        shapes = [Shape(*sizes) for sizes in (_OF_IMAGES if pair.pixels else _SHAPES)]
        few = [shape for shape in shapes if shape.blocks == 1 or shape.blocks * pair.rows <= _MOST_BLOCKS]
        for n in narrow:
            format = (n.channels_8 if pair.first.kind == "Convolution" else n.rows,)
            found += [Tactic(n.key(shape.key), format, format, n.dtype, reads_strided=strided) for shape in few]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        pair, shape = _pair(problem), Shape.parsed(shape_of(tactic))
        nbytes = 2 * (pair.middle * (pair.given + pair.made) + pair.given * pair.pixels) / shape.blocks
        waves = max(1.0, pair.rows * shape.blocks * shape.threads / (132 * 1024))
        return 2e-6 + 3e-7 * (shape.blocks > 1) + waves * (5e-7 + nbytes / 1e11)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [middle, given] padded to eights, bias [middle], weights [middle, made] likewise, bias [made]."""
        pair, given = _pair(code.problem), dict(zip(code.problem.constants, weights.constants, strict=True))
        first, second = (given[layer.inputs[1]].reshape(given[layer.inputs[1]].shape[:2]) for layer in pair.products)
        biases = [
            given[layer.inputs[2]].reshape(-1) if len(layer.inputs) > 2 and layer.inputs[2] >= 0 else np.zeros(size)
            for layer, size in zip(pair.products, (pair.middle, pair.made), strict=True)
        ]
        narrow = narrow_of(code.tactic)
        return [
            narrow.rounded(np.pad(first, ((0, 0), (0, -pair.given % 8)))), biases[0].astype(np.float32),
            narrow.rounded(np.ascontiguousarray(np.pad(second, ((0, -pair.made % 8), (0, 0))).T)),
            np.pad(biases[1], (0, -pair.made % 8)).astype(np.float32),
        ]  # fmt: skip

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return narrow_of(tactic).dtype

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        pair, shape = _pair(problem), Shape.parsed(shape_of(tactic))
        return source(problem, pair, shape), {
            "grid": (shape.blocks * pair.rows,), "block": (shape.threads,), "shared": shape.shared(pair),
            "pitches": (1,) if pair.pixels else (),
        }  # fmt: skip


def _pair(problem: Problem) -> Pair:
    pair = pair_of(problem)
    assert not isinstance(pair, str), pair
    return pair
