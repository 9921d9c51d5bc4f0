"""Convolutions of bytes on Hopper's tensor cores: what lies between Dequantize and Quantize layers, as one kernel.

An implicit product of pixels by constant weights, sums in int32 (`mapped_source`): tiles are copied by tensor maps,
those of windows by maps that know images, so that no thread computes an address. Both operands have k innermost, as
wgmma wants bytes: images are NHWC, weights KRSC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    NHWC,
    Array,
    ByteRegion,
    Code,
    Executable,
    GraphView,
    Layer,
    Problem,
    Tactic,
    Weights,
    byte_regions,
    read_byte_region,
)

from tenonrt_kernel_nvrtc.byte_finish import ByteFinish, order
from tenonrt_kernel_nvrtc.byte_problem import finishing, geometry_of
from tenonrt_kernel_nvrtc.byte_tiles import ByteTile, Work, tiles
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.mapped_source import Operands, source
from tenonrt_kernel_nvrtc.product_problem import Geometry
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of
from tenonrt_kernel_nvrtc.tensor_maps import Images, Mapped, MappedLaunch, Matrix
from tenonrt_kernel_nvrtc.windows import windows

_CHANNELS = 16  # of a pixel, which a map's strides are multiples of
_STEP = 32  # bytes of k in an instruction
_FARTHEST, _STRIDE = 127, 8  # of the corners that a map of images has, and between them


class ByteProductKernel(CudaKernel):
    """Images of bytes without zero points, one group; results in bytes or narrow floats."""

    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return byte_regions(view, layer)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no tensor maps and wgmma"
        region = read_byte_region(problem)
        return region if isinstance(region, str) else _refuses(problem, region)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        inputs = (NHWC,) * len(problem.activations)
        found = [tile.key for tile in tiles(_work(problem), _depth(geometry_of(problem).channels))]
        if problem.types[problem.outputs[0]].dtype == "float32":
            return [Tactic(n.key(key), inputs, (n.channels_8,), n.dtype) for n in narrow for key in found]
        return [Tactic(key, inputs, (NHWC,)) for key in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return _work(problem).seconds(_tile(tactic))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [columns, taps, channels] in int8, columns in the order of sums, channels padded to stages of k;
        then, in steps of the result, what `ByteFinish` reads."""
        problem, region = code.problem, ByteRegion.of(code.problem)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        filters, depth = given[region.weights.inputs[0]], _tile(code.tactic).depth
        taps = filters.reshape(*filters.shape[:2], -1).transpose(0, 2, 1)
        taps = np.pad(taps, ((0, 1), (0, 0), (0, -taps.shape[2] % depth)))  # a row of zeros: the last
        return [np.ascontiguousarray(taps[order(len(filters))].reshape(-1, taps.shape[1] * taps.shape[2])),
                finishing(region, given, len(filters))]  # fmt: skip

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "bytes"

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        tile, g, region = _tile(tactic), geometry_of(problem), ByteRegion.of(problem)
        work, n = _work(problem), problem.types[problem.outputs[0]].concrete({})[1]
        result = problem.types[problem.outputs[0]].dtype
        added = None if region.added is None else region.added.inputs[0]
        finish = ByteFinish(
            problem, tile, g.m, n, narrow_of(tactic).dtype if result == "float32" else result,
            None if added is None else (added, problem.types[added].dtype),
            region.rectifier is not None, region.limit is not None,
        )  # fmt: skip
        read = "u8" if problem.types[region.source.inputs[0]].dtype == "uint8" else "s8"
        gathered = None if g.whole else g
        operands = Operands(g.m, n, work.stages, tile.depth, _STEP, f"s32.{read}.s8", "int", gathered=gathered)
        return source(operands, tile, finish), {
            "grid": (tile.grid(g.m, n),), "block": (tile.threads,), "shared": tile.shared,
        }  # fmt: skip

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem, tile, info = code.problem, _tile(code.tactic), code.info
        position = problem.activations.index(ByteRegion.of(problem).source.inputs[0])
        columns, k = packed[0].shape
        weights = Matrix(columns, k, tile.columns // tile.down, tile.depth, 1)
        return MappedLaunch(
            code.blob, packed, _mapped(geometry_of(problem), tile), weights, position, grid=info["grid"],
            block=info["block"], shared=info["shared"], early=info["early"],
        )  # fmt: skip


def _tile(tactic: Tactic) -> ByteTile:
    return ByteTile.parsed(shape_of(tactic))


def _depth(channels: int) -> int:
    """Bytes of k in a stage: fewer where they would be padded more."""
    return 64 if -channels % 128 >= 64 else 128


def _work(problem: Problem) -> Work:
    g, region = geometry_of(problem), ByteRegion.of(problem)
    n = problem.types[problem.outputs[0]].concrete({})[1]
    read = g.images * g.rows.size * g.columns.size * g.channels
    written = g.m * n * (2 if region.quantize is None else 1)
    stages = g.taps * -(-g.channels // _depth(g.channels))
    added = region.added is not None
    return Work(g.m, n, stages, read + written + (g.m * n if added else 0), added)


def _mapped(g: Geometry, tile: ByteTile) -> Mapped:
    """The map of what a block copies of the rows."""
    box, y, x = tile.rows // tile.across, g.rows, g.columns
    if g.whole:
        return Matrix(g.m, g.channels, box, tile.depth, 1)
    after = tuple(w.after - (w.window - 1) * w.dilation for w in (y, x))
    return Images(
        g.images, y.size, x.size, g.channels, box, tile.depth, (y.before, x.before), (after[0], after[1]),
        (y.stride, x.stride),
    )  # fmt: skip


def _refuses(problem: Problem, region: ByteRegion) -> str:
    image, filters = (problem.types[layer.inputs[0]] for layer in (region.source, region.weights))
    sizes, window = image.concrete({}), filters.concrete({})
    if len(sizes) != 4 or not image.size or not problem.types[problem.outputs[0]].size:
        return f"no image, or an empty one: {image}"
    if region.convolution.attrs.groups > 1 or sizes[1] % _CHANNELS or window[0] % _CHANNELS:
        return f"groups, or channels that are no multiple of {_CHANNELS}"
    inputs = {region.source.inputs[0]} | (set() if region.added is None else {region.added.inputs[0]})
    if inputs != set(problem.activations):
        return "an operand is constant, or is read twice"
    for w in windows(problem, window[2:], region.convolution):
        if max(w.before, w.after, (w.window - 1) * w.dilation) > _FARTHEST or w.stride > _STRIDE:
            return f"a window of {w.window} whose corners lie too far outside or apart"
    return ""
