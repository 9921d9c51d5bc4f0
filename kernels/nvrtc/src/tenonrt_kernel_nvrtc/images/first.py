"""The first convolution of a network: images of at most four channels, in single precision as they come.

Other kernels pad channels to eight, or four, and need another kernel that brings the image into such a format, which
writes it and reads it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import msgspec
import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.clusters import CLUSTERS
from tenonrt_kernel_nvrtc.expressions import QUICK
from tenonrt_kernel_nvrtc.growing import product_regions
from tenonrt_kernel_nvrtc.images.first_source import (
    CHANNELS,
    MOST_TAPS,
    WORD,
    Work,
    packed_filters,
    source,
    taps_of,
)
from tenonrt_kernel_nvrtc.images.patches import MULTIPROCESSORS, PIXELS, WARPS, Patch
from tenonrt_kernel_nvrtc.kernel import CudaKernel, capability
from tenonrt_kernel_nvrtc.pointwise import chain
from tenonrt_kernel_nvrtc.products.problem import Branch, Geometry, geometry, others, parts_of, refuses
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of

_TAIL = 4  # layers of a region, the convolution included
_AMPERE = 80  # the first architecture with bfloat16 and this product
_ROWS, _ACROSS, _MOST = (1, 2, 4, 8), (32, 64, 128), 6
_SHARED = 48 << 10
# Of an H200, to rank: bytes a second; cycles of an instruction, of a pixel that a thread reads, until memory answers.
_BYTES, _MULTIPLY, _PIXEL, _AWAY, _HERTZ = 3.5e12, 8, 25, 900, 1.7e9


class FirstKernel(CudaKernel):
    """Images [N, channels, H, W] in single precision; results in 16 bits, with what follows them element by element."""

    begins_itself: ClassVar[bool] = True
    library: ClassVar[str] = CLUSTERS

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return product_regions(view, layer, _TAIL)

    def refuses(self, problem: Problem) -> str:
        if capability() < _AMPERE:
            return f"products of bfloat16 need sm_{_AMPERE}"
        why = refuses(problem)
        if why or problem.layer.kind != "Convolution" or len(problem.outputs) > 1:
            return why or "no convolution, or several"
        part, g = _parts(problem)
        if g.channels > CHANNELS or g.columns.window > MOST_TAPS or max(g.rows.dilation, g.columns.dilation) > 1:
            return f"{g.channels} channels, a window of {g.columns.window} across, or a dilation"
        if others(problem, part):
            return "its tail reads another tensor"
        if Work.of(g, part.columns) is None:
            return f"{part.columns} columns of a window of {g.rows.window} by {g.columns.window}"
        return "" if _patches(g, part.columns) else "a patch that shared memory does not hold"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        part, g = _parts(problem)
        return [
            Tactic(n.key(patch.key), (LINEAR,), (n.channels_8,), n.dtype, writes_strided=(0,))
            for n in narrow
            for patch in _patches(g, part.columns)
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        part, g = _parts(problem)
        return _seconds(g, Patch.parsed(shape_of(tactic), taps_of(g)), part.columns)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Words of the weights, and bias in single precision, for all columns that are computed."""
        part, g = _parts(code.problem)
        given = dict(zip(code.problem.constants, weights.constants, strict=True))
        work, filters = _work(g, part.columns), given[part.anchor.inputs[1]]
        bias = part.anchor.inputs[2] if len(part.anchor.inputs) > 2 else -1
        values = given[bias].reshape(-1) if bias >= 0 else np.zeros(len(filters), np.float32)
        return [
            packed_filters(filters, work, narrow_of(code.tactic)),
            np.pad(values, (0, work.columns - len(values))).astype(np.float32),
        ]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return narrow_of(tactic).dtype

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        part, g = _parts(problem)
        patch = Patch.parsed(shape_of(tactic), taps_of(g))
        parameters = [
            "narrow_t *out", "const float *pixels", "const unsigned *filters", "const float *bias", "int out_pitch",
        ]  # fmt: skip
        text = source(g, patch, _work(g, part.columns), part.columns, _tail(problem, part), parameters)
        shared = WORD * patch.pixels(g)
        return text, {"grid": (patch.grid(g),), "block": (patch.threads,), "shared": shared, "pitches": (0,)}


def _parts(problem: Problem) -> tuple[Branch, Geometry]:
    """The product, its columns padded to eights, and how rows are gathered, of channels as they come."""
    channels = problem.types[problem.layer.inputs[0]].concrete({})[1]
    return parts_of(problem)[0], replace(geometry(problem), channels=channels)


def _work(g: Geometry, columns: int) -> Work:
    work = Work.of(g, columns)
    assert work is not None, "a problem that was refused"
    return work


def _tail(problem: Problem, part: Branch) -> tuple[list[str], str]:
    """What follows the convolution, on value v: statements, and the result."""
    followers = msgspec.structs.replace(problem, layers=part.tail, outputs=(part.result,))
    large = frozenset(i for i in problem.constants if problem.inputs[i].value is None)
    return chain(followers, {f"x{part.anchor.outputs[0]}": "v"}, skip=large, instead=QUICK)


def _patches(g: Geometry, columns: int) -> list[Patch]:
    """Those that seem best first."""
    widest = -(-g.columns.positions // PIXELS) * PIXELS
    across = dict.fromkeys(min(columns, widest) for columns in _ACROSS)
    rows = [n for n in _ROWS if n < 2 * g.rows.positions]
    found = [Patch(r, c, blocks, taps_of(g)) for r in rows for c in across for blocks in _work(g, columns).blocks]
    fitting = [patch for patch in found if WORD * patch.pixels(g) <= _SHARED]
    return sorted(fitting, key=lambda patch: (_seconds(g, patch, columns), patch.key))[:_MOST]


def _seconds(g: Geometry, patch: Patch, columns: int) -> float:
    work = _work(g, columns)
    pieces = patch.rows * (patch.columns // PIXELS) * work.parts / WARPS
    tile = _PIXEL * patch.pixels(g) / patch.threads + pieces * work.steps * (work.groups + 1) * _MULTIPLY
    turns = -(-patch.tiles(g) // (MULTIPROCESSORS * patch.blocks))
    moved = 4 * g.images * g.rows.size * g.columns.size * g.channels + 2 * g.m * columns
    both = turns * (_AWAY + patch.blocks * tile) / _HERTZ, moved / _BYTES
    return 3e-6 + max(both) + min(both) / 4
