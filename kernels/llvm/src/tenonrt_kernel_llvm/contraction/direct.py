"""Direct convolution: register tiles of pixels by blocks of output channels, padded taps skipped instead of multiplied.

Tactics differ in the tile, in the order of units (all pixels for a block of channels, all channels for a strip of
pixels, or as the first with the depth cut into pieces) and in the input's format: blocks of 16 channels, or planes for
the few channels of a first layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    Format,
    GraphView,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
)

from tenonrt_kernel_llvm.contraction.direct_recipes import Recipe, cycles, pack_weights, recipes
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter
from tenonrt_kernel_llvm.contraction.epilogue import (
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    pack_epilogue,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.geometry import Geometry, geometry_of, read_geometry
from tenonrt_kernel_llvm.contraction.grouping import read_grouping
from tenonrt_kernel_llvm.contraction.piecewise import PiecewiseWriter
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import Target, host_target


class DirectConvolution(LlvmKernel):
    """float32, 1 or 2 spatial axes, any stride, dilation, padding and batch; constant weights; pointwise tails."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        geometry, tail = read_geometry(problem), read_tail(problem)
        why = next((found for found in (geometry, tail) if isinstance(found, str)), "")
        if not why and not isinstance(geometry, str) and not isinstance(tail, str):
            grouping = read_grouping(geometry)
            why = grouping if isinstance(grouping, str) else tail_refusal(problem, tail)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        geometry, tail = geometry_of(problem), tail_of(problem)
        found = []
        for recipe in recipes(geometry, host_target()):
            formats = operand_formats(problem, tail, _source_format(geometry, recipe), NCHW16C)
            found.append(
                Tactic(
                    recipe.key, formats, (NCHW16C,),
                    reads_strided=strided_operands(problem, formats), writes_strided=(0,),
                )
            )  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """Cycles that multiplying takes at the tile's best, as if the clock were 3 GHz."""
        geometry = geometry_of(problem)
        return cycles(geometry, Recipe.parse(tactic.key), host_target()) / 3e9 / problem.threads

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights by blocks of outputs, blocks of inputs, window rows and columns; then the epilogue's."""
        problem, layer, recipe = code.problem, code.problem.layer, Recipe.parse(code.tactic.key)
        geometry, tail, arrays = geometry_of(problem), tail_of(problem), named(code, weights)
        dense = arrays[layer.inputs[1]].reshape(geometry.outputs, -1, geometry.y.window, geometry.x.window)
        packed = pack_weights(dense, geometry, recipe.tile.blocks, recipe.planes)
        return [packed, *pack_epilogue(problem, tail, bias_of(problem), geometry.outputs, arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        geometry, tail = geometry_of(problem), tail_of(problem)
        rows = epilogue_rows(problem, tail, bias_of(problem), geometry.outputs)
        routine = Routine(problem, tactic, target, packed=1 + rows)
        recipe = Recipe.parse(tactic.key)
        writer = PiecewiseWriter if recipe.order == "k" else DirectWriter
        return writer(routine, geometry, recipe, problem.layer.inputs[0]).code()


def strided_operands(problem: Problem, formats: Sequence[Format]) -> tuple[int, ...]:
    """The activations that may be slices: those with an image's stride of their own."""
    return tuple(k for k, i in enumerate(problem.activations) if problem.types[i].rank >= 3 and formats[k].blocks)


def _source_format(geometry: Geometry, recipe: Recipe) -> Format:
    return LINEAR if recipe.planes else NCHW16C
