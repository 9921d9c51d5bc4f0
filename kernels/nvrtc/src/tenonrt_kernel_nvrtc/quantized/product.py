"""Products of bytes on Hopper's tensor cores: what lies between Dequantize and Quantize layers, as one kernel.

An implicit product of pixels, or rows, by constant weights (`products.mapped_source`): tiles are copied by tensor maps,
those of windows by maps that know images, so that no thread computes an address. Both operands have k innermost, as
wgmma wants bytes: images are NHWC, weights KRSC. Sums of integers are int32. Those of float8_e4m3fn are single
precision, of which the tensor cores of Hopper keep about 14 bits while they add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    FLOAT8,
    LINEAR,
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
)

from tenonrt_kernel_nvrtc.curves import CURVES
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import architecture
from tenonrt_kernel_nvrtc.products.gathering import mapped_rows, refuses_windows, stage_depth
from tenonrt_kernel_nvrtc.products.mapped_source import Operands, source
from tenonrt_kernel_nvrtc.quantized.finish import ByteFinish, order
from tenonrt_kernel_nvrtc.quantized.problem import columns_of, finishing, geometry_of, read_regions, regions_of
from tenonrt_kernel_nvrtc.quantized.tiles import ByteTile, Work, tiles
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of
from tenonrt_kernel_nvrtc.tensor_maps import MappedLaunch, Matrix
from tenonrt_kernel_nvrtc.windows import windows

_CHANNELS = 16  # of a pixel or row, which a map's strides are multiples of
_STEP = 32  # bytes of k in an instruction
_DEPTH = 128  # bytes of k in a stage, at most


class ByteProductKernel(CudaKernel):
    """Images or rows of bytes without zero points, one group; results in bytes or narrow floats; siblings, too."""

    aggregates: ClassVar[bool] = True
    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return byte_regions(view, layer, CURVES)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no tensor maps and wgmma"
        regions = read_regions(problem)
        return regions if isinstance(regions, str) else _refuses(problem, regions)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        images = regions_of(problem)[0].product.kind == "Convolution"
        stored, count = NHWC if images else LINEAR, len(problem.outputs)
        inputs = (stored,) * len(problem.activations)
        found = [tile.key for tile in tiles(_work(problem), stage_depth(geometry_of(problem).channels, _DEPTH))]
        if problem.types[problem.outputs[0]].dtype == "float32":
            formats = [(n, n.channels_8 if images else n.rows) for n in narrow]
            return [Tactic(n.key(key), inputs, (to,) * count, n.dtype) for n, to in formats for key in found]
        if not _is_float(problem):
            return [Tactic(key, inputs, (stored,) * count) for key in found]
        # Sums of 14 bits are as precise as any narrow float, and none is stored.
        return [Tactic(n.key(key), inputs, (stored,) * count, n.dtype) for n in narrow[:1] for key in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return _work(problem).seconds(_tile(tactic))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [columns, taps, channels] as int8, columns in the order of sums, channels padded to stages of k;
        then, in steps of the result, what `ByteFinish` reads."""
        problem, depth = code.problem, _tile(code.tactic).depth
        given = dict(zip(problem.constants, weights.constants, strict=True))
        filters = np.concatenate([given[r.weights.inputs[0]].view(np.int8) for r in regions_of(problem)])
        taps = filters.reshape(*filters.shape[:2], -1).transpose(0, 2, 1)
        taps = np.pad(taps, ((0, 1), (0, 0), (0, -taps.shape[2] % depth)))  # a row of zeros: the last
        return [np.ascontiguousarray(taps[order(len(filters))].reshape(-1, taps.shape[1] * taps.shape[2])),
                finishing(problem, given)]  # fmt: skip

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "bytes"

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        tile, g, region = _tile(tactic), geometry_of(problem), regions_of(problem)[0]
        work, parts = _work(problem), columns_of(problem)
        n = sum(parts)
        result = problem.types[problem.outputs[0]].dtype
        added = None if region.added is None else region.added.inputs[0]
        finish = ByteFinish(
            problem, tile, g.m, tuple(parts), narrow_of(tactic).dtype if result == "float32" else result,
            None if added is None else (added, problem.types[added].dtype),
            region.rectified, region.limit is not None, region.curve,
        )  # fmt: skip
        types, sums, immediates = _multiplied(problem)
        gathered = None if g.whole else g
        operands = Operands(g.m, n, work.stages, tile.depth, _STEP, types, sums, immediates, gathered)
        return source(operands, tile, finish), {
            "grid": (tile.grid(g.m, n),), "block": (tile.threads,), "shared": tile.shared,
        }  # fmt: skip

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem, tile, info = code.problem, _tile(code.tactic), code.info
        position = problem.activations.index(regions_of(problem)[0].source.inputs[0])
        columns, k = packed[0].shape
        weights = Matrix(columns, k, tile.columns // tile.down, tile.depth, 1)
        rows = mapped_rows(geometry_of(problem), tile.rows // tile.across, tile.depth, 1)
        return MappedLaunch(
            code.blob, packed, rows, weights, position, grid=info["grid"], block=info["block"], shared=info["shared"],
            early=info["early"],
        )  # fmt: skip


def _tile(tactic: Tactic) -> ByteTile:
    return ByteTile.parsed(shape_of(tactic))


def _is_float(problem: Problem) -> bool:
    return problem.types[regions_of(problem)[0].source.inputs[0]].dtype == FLOAT8


def _multiplied(problem: Problem) -> tuple[str, str, str]:
    """The instruction's types, the sums' type in C, and what else the instruction is told."""
    read = problem.types[regions_of(problem)[0].source.inputs[0]].dtype
    if read == FLOAT8:
        return "f32.e4m3.e4m3", "float", ", 1, 1"
    return f"s32.{'u8' if read == 'uint8' else 's8'}.s8", "int", ""


def _work(problem: Problem) -> Work:
    g, region = geometry_of(problem), regions_of(problem)[0]
    n = sum(columns_of(problem))
    read = g.images * g.rows.size * g.columns.size * g.channels
    written = g.m * n * (2 if region.quantize is None else 1)
    stages = g.taps * -(-g.channels // stage_depth(g.channels, _DEPTH))
    added = region.added is not None
    rows = region.product.kind == "FullyConnected"
    return Work(g.m, n, stages, read + written + (g.m * n if added else 0), added, rows)


def _refuses(problem: Problem, regions: Sequence[ByteRegion]) -> str:
    region = regions[0]
    image, filters = (problem.types[layer.inputs[0]] for layer in (region.source, region.weights))
    sizes, window = image.concrete({}), filters.concrete({})
    images = region.product.kind == "Convolution"
    if (images and len(sizes) != 4) or not image.size or not problem.types[problem.outputs[0]].size:
        return f"no image, or an empty one: {image}"
    outside = any(columns % _CHANNELS for columns in (window[1], *columns_of(problem)))
    if (images and region.product.attrs.groups > 1) or outside:
        return f"groups, or channels that are no multiple of {_CHANNELS}"
    inputs = {region.source.inputs[0]} | (set() if region.added is None else {region.added.inputs[0]})
    if inputs != set(problem.activations):
        return "an operand is constant, or is read twice"
    return refuses_windows(windows(problem, window[2:], region.product)) if images else ""
