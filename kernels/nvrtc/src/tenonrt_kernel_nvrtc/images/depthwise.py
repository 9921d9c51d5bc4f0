"""Depthwise convolution with channels innermost: a thread has 8 channels of a few positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, Tactic, Weights

from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.growing import activated, grow
from tenonrt_kernel_nvrtc.images.depthwise_source import Strip
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.storage import Narrow, narrow_of, shape_of
from tenonrt_kernel_nvrtc.tails import refuses_operands

_TILES = ((1, 64), (2, 64), (4, 64), (1, 128), (2, 128), (4, 128), (7, 64))  # positions, threads
_TALL = ((1, 64, 2), (2, 64, 2), (4, 64, 2), (2, 64, 4), (2, 128, 2))  # and rows, whose windows have so few elements:
_MOST_HELD = 9


class DepthwiseKernel(CudaKernel):
    """One input and one output channel to a group, windows of up to 7 by 7, and pointwise layers of the same size."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        region = grow(view, [layer], 4)
        if not activated(region):
            yield (layer,)
        if len(region) > 1:
            yield region

    def refuses(self, problem: Problem) -> str:
        layer = problem.layer
        if layer.kind != "Convolution" or layer.inputs[1] not in problem.constants:
            return "no convolution by constants"
        image, weights = problem.types[layer.inputs[0]], problem.types[layer.inputs[1]].concrete({})
        if image.rank != 4 or image.dtype != "float32" or not problem.types[layer.outputs[0]].size:
            return "no image of float32"
        if weights[1] != 1 or layer.attrs.groups != image.shape[1] or weights[0] != image.shape[1]:
            return "groups of more than one channel"
        if weights[2] * weights[3] > 49:
            return "a window of more than 49 elements"
        why = next(filter(None, (refusal(problem, follower) for follower in problem.layers[1:])), "")
        if len(layer.inputs) > 2 and layer.inputs[2] >= 0 and layer.inputs[2] not in problem.constants:
            return "a bias that is computed"
        return why or refuses_operands(problem)

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        strided = tuple(range(len(problem.activations)))
        return [
            Tactic(
                n.key(tile), (n.channels_8,) * len(strided), (n.channels_8,), n.dtype, reads_strided=strided,
                writes_strided=(0,),
            )
            for n in narrow for tile in _tiles(problem)
        ]  # fmt: skip

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sizes = [problem.types[i].nbytes for i in (*problem.activations, *problem.outputs)]
        return 3e-6 + sum(size for size in sizes if isinstance(size, int)) / 2 / 2.5e12

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [R, S, C], narrow, and bias [C] in single precision, channels padded with zeros."""
        problem = code.problem
        given = dict(zip(problem.constants, weights.constants, strict=True))
        taps = given[problem.layer.inputs[1]]
        channels = taps.shape[0]
        padding = -channels % 8
        bias = problem.layer.inputs[2] if len(problem.layer.inputs) > 2 else -1
        added = given[bias] if bias >= 0 else np.zeros(channels, np.float32)
        return [
            narrow_of(code.tactic).rounded(np.pad(taps[:, 0].transpose(1, 2, 0), ((0, 0), (0, 0), (0, padding)))),
            np.pad(added, (0, padding)).astype(np.float32),
        ]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return narrow_of(tactic).dtype

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        positions, threads, *heights = (int(text) for text in shape_of(tactic).split("x"))
        strip = Strip.of(problem, positions, *heights)
        count = strip.images * strip.count * strip.groups
        body = f"""
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= {count}) return;
    const int c = t % {strip.groups} * 8, strip = t / {strip.groups} % {strip.count};
    const int n = t / {strip.groups * strip.count};
    {strip.lines()}
"""
        inputs = [f"const narrow_t *x{n}" for n in problem.activations]
        pitches = ["int out_pitch", *(f"int x{n}_pitch" for n in problem.activations)]
        parameters = ["narrow_t *out", *inputs, "const narrow_t *weights", "const float *bias", *pitches]
        text = f'extern "C" __global__ void kernel({", ".join(parameters)}) {{{body}}}\n'
        info = {"grid": grid(count, threads), "block": (threads,), "pitches": tuple(range(1 + len(inputs)))}
        return text, info


def _tiles(problem: Problem) -> list[str]:
    """Positions by threads, and by rows where they are several."""
    window = problem.types[problem.layer.inputs[1]].concrete({})[2:]
    rows = problem.types[problem.layer.outputs[0]].concrete({})[2]
    tall = [tile for tile in _TALL if prod(window) <= _MOST_HELD and tile[2] < 2 * rows]
    return ["x".join(map(str, tile)) for tile in (*_TILES, *tall)]
