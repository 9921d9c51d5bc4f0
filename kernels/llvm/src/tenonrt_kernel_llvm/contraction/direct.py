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

from tenonrt_kernel_llvm.contraction.direct_recipes import (
    Recipe,
    cycles,
    least_units,
    pack_weights,
    recipes,
    weights_bytes,
)
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter
from tenonrt_kernel_llvm.contraction.epilogue import named, operand_formats, overwritable, reads_source
from tenonrt_kernel_llvm.contraction.filters import filters_of, read_filters
from tenonrt_kernel_llvm.contraction.piecewise import PiecewiseWriter
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import regions_with_tail
from tenonrt_kernel_llvm.target import Target, host_target

_BYTES_A_SECOND = 2e10  # that a thread reads from the last-level cache


class DirectConvolution(LlvmKernel):
    """float32, 1 or 2 spatial axes, any stride, dilation, padding and batch; constant weights; pointwise tails.

    Siblings are one convolution whose weights lie behind each other, each filter on blocks of its own.
    """

    aggregates = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        filters = read_filters(problem)
        return (
            Support(False, filters)
            if isinstance(filters, str)
            else Support(True, runtime_symbols=runtime_symbols(problem))
        )

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        filters = filters_of(problem)
        results = tuple(range(len(problem.outputs)))
        found = []
        for recipe in recipes(filters.geometry, host_target()):
            if recipe.planes and reads_source(problem, filters.reach):
                continue
            formats = operand_formats(problem, filters.reach, _source_format(recipe), NCHW16C)
            found.append(
                Tactic(
                    recipe.key, formats, (NCHW16C,) * len(results),
                    inplace=overwritable(problem, filters.tails, formats, NCHW16C),
                    reads_strided=strided_operands(problem, formats), writes_strided=results,
                )
            )  # fmt: skip
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """What multiplying takes at the tile's best, as if the clock were 3 GHz, or reading the weights once."""
        geometry, recipe = filters_of(problem).geometry, Recipe.parse(tactic.key)
        busy = min(problem.threads, least_units(geometry, recipe))
        multiplying = cycles(geometry, recipe, host_target()) / 3e9 / problem.threads
        return max(multiplying, weights_bytes(geometry, recipe) / _BYTES_A_SECOND / busy)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights by blocks of outputs, blocks of inputs, window rows and columns; then the epilogues'."""
        recipe, filters, arrays = Recipe.parse(code.tactic.key), filters_of(code.problem), named(code, weights)
        packed = pack_weights(filters.dense(arrays), filters.geometry, recipe.tile.blocks, recipe.planes)
        return [packed, *filters.pack_epilogues(arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        filters = filters_of(problem)
        routine = Routine(problem, tactic, target, packed=1 + sum(filters.rows))
        recipe = Recipe.parse(tactic.key)
        writer = PiecewiseWriter if recipe.order == "k" else DirectWriter
        return writer(routine, filters.geometry, recipe, problem.layer.inputs[0], filters.results(routine)).code()


def strided_operands(problem: Problem, formats: Sequence[Format]) -> tuple[int, ...]:
    """The activations that may be slices: those with an image's stride of their own."""
    return tuple(k for k, i in enumerate(problem.activations) if problem.types[i].rank >= 3 and formats[k].blocks)


def _source_format(recipe: Recipe) -> Format:
    return LINEAR if recipe.planes else NCHW16C
