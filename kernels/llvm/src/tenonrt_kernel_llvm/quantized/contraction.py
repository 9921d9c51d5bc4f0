"""Quantized convolutions and products with weights: bytes in, sums of 32 bits, bytes or real numbers out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, ProblemLayer, Support, Tactic, Weights

from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.quantized.engines import Depth, depth_of, engines_for, tile_shapes
from tenonrt_kernel_llvm.quantized.geometry import KINDS, Shape, formats_of, grouping_refusal, read_shape
from tenonrt_kernel_llvm.quantized.problem import Quantized, read_quantized
from tenonrt_kernel_llvm.quantized.recipes import Recipe, estimate, recipes
from tenonrt_kernel_llvm.quantized.regions import quantized_regions
from tenonrt_kernel_llvm.quantized.requantization import PAIR, pack_stages
from tenonrt_kernel_llvm.quantized.writer import ContractionWriter, least_pixels, workspace_bytes
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target, host_target


class QuantizedContraction(LlvmKernel):
    """int8 or uint8 inputs, symmetric int8 weights of a scale or one for each output, requantized in registers."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return quantized_regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        found = read_contraction(problem)
        if isinstance(found, str):
            return Support(False, found)
        if not engines_for(host_target()):
            return Support(False, f"no engine for bytes on {host_target().name}")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        region, shape = contraction_of(problem)
        inputs, outputs = formats_of(problem, region)
        return [
            Tactic(recipe.key, inputs, outputs, workspace=workspace_bytes(shape, recipe))
            for recipe in recipes(shape, engines_for(host_target()))
        ]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return estimate(contraction_of(problem)[1], Recipe.parse(tactic.key), problem.threads)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights, the sums that undo zero points, factors, numbers of the stages, padding, shapes of tiles."""
        problem, recipe = code.problem, Recipe.parse(code.tactic.key)
        region, shape = contraction_of(problem)
        assert region.weights is not None
        arrays = dict(zip(problem.constants, weights.constants, strict=True))
        dense = dense_weights(region, arrays)
        depth = depth_of(recipe.engine, shape.inputs)
        zero = int(arrays[region.source.zero].reshape(())) if region.source.zero >= 0 else 0
        scale = arrays[region.source.scale].reshape(()).astype(np.float64)
        scale = scale * arrays[region.weights.scale].reshape(-1).astype(np.float64)
        shift = 0 if recipe.engine.signed or problem.types[region.source.stored].dtype == "uint8" else 128
        return [
            pack_weights(spread_groups(dense, shape), depth),
            pack_start(dense, zero + shift),
            *pack_stages(region, arrays, scale, shape.outputs),
            np.full(64, zero % 256, np.uint8),
            np.frombuffer(tile_shapes(least_pixels(shape, recipe), depth.chunk), np.uint8),
        ]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        region, shape = contraction_of(problem)
        recipe = Recipe.parse(tactic.key)
        routine = Routine(problem, tactic, recipe.engine.extend(target), packed=6)
        return ContractionWriter(routine, region, shape, recipe).code()


def read_contraction(problem: Problem) -> tuple[Quantized, Shape] | str:
    """The region and the sizes of a problem, or why it is not computed."""
    region = read_quantized(problem, KINDS)
    if isinstance(region, str):
        return region
    assert region.weights is not None
    shape = read_shape(problem, region)
    if isinstance(shape, str):
        return shape
    if why := grouping_refusal(shape):
        return why
    axis = 1 if region.anchor.kind == "MatrixMultiply" and not region.anchor.attrs.transpose_b else 0
    scale, layer = problem.types[region.weights.scale], _dequantize(problem, region)
    if scale.size != 1 and (layer.attrs.axis % problem.types[region.weights.stored].rank) != axis:
        return "its weights have a scale for each input"
    if scale.size not in (1, shape.outputs):
        return "its weights have neither one scale nor one for each output"
    return region, shape


def _dequantize(problem: Problem, region: Quantized) -> ProblemLayer:
    number = region.anchor.inputs[1]
    return next(layer for layer in problem.layers if number in layer.outputs)


def contraction_of(problem: Problem) -> tuple[Quantized, Shape]:
    """Of a problem that `supports` has accepted."""
    found = read_contraction(problem)
    assert not isinstance(found, str), found
    return found


def dense_weights(region: Quantized, arrays: dict[int, Array]) -> Array:
    """int8 [outputs, inputs], inputs by window row, column, channel."""
    assert region.weights is not None
    stored, anchor = arrays[region.weights.stored], region.anchor
    if anchor.kind == "Convolution":
        return stored.transpose(0, 2, 3, 1).reshape(stored.shape[0], -1)
    return stored if anchor.kind == "FullyConnected" or anchor.attrs.transpose_b else stored.T


def spread_groups(dense: Array, shape: Shape) -> Array:
    """[outputs, inputs of a set], zeros for the channels of other groups."""
    together = shape.groups // shape.sets
    if together == 1:
        return dense
    each, channels = shape.outputs // shape.groups, shape.channels // shape.groups
    wide = np.zeros((shape.sets, together, each, shape.y.window * shape.x.window, together, channels), np.int8)
    split = dense.reshape(shape.sets, together, each, -1, channels)
    for group in range(together):
        wide[:, group, :, :, group] = split[:, group]
    return wide.reshape(shape.outputs, -1)


def pack_weights(dense: Array, depth: Depth) -> Array:
    """[pair of blocks][four inputs][block][16 outputs][4], zeros where there are none."""
    outputs, inputs = dense.shape
    pairs = -(-outputs // PAIR)
    wide = np.zeros((pairs * PAIR, depth.padded), np.int8)
    wide[:outputs, :inputs] = dense
    split = wide.reshape(pairs, 2, BLOCK, depth.padded // 4, 4).transpose(0, 3, 1, 2, 4)
    return np.ascontiguousarray(split)


def pack_start(dense: Array, zero: int) -> Array:
    """What sums begin with: products of the zero point are taken away."""
    start = np.zeros(-(-len(dense) // PAIR) * PAIR, np.int32)
    start[: len(dense)] = -zero * dense.sum(axis=1, dtype=np.int64)
    return start
