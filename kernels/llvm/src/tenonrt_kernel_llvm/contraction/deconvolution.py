"""Deconvolution as convolutions between the strides, by the writers of direct and of depthwise convolution."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import LINEAR, NCHW16C, Array, Code, GraphView, Layer, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm.contraction.depthwise import DepthwiseWriter, pack_windows, widths
from tenonrt_kernel_llvm.contraction.direct import strided_operands
from tenonrt_kernel_llvm.contraction.direct_recipes import MAX_EDGES, Recipe, cycles, pack_weights, recipes, row_runs
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter
from tenonrt_kernel_llvm.contraction.epilogue import (
    bias_of,
    epilogue_rows,
    named,
    operand_formats,
    pack_epilogue,
    reads_source,
    tail_refusal,
)
from tenonrt_kernel_llvm.contraction.grouping import read_grouping
from tenonrt_kernel_llvm.contraction.transposed import Part, parts_of, read_parts
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import read_tail, regions_with_tail, tail_of
from tenonrt_kernel_llvm.target import Target, host_target

_MOST = 4  # tactics: code for every part takes long to compile


class _Transposed(LlvmKernel):
    """What both have in common: a phase for each part, whose weights lie behind each other."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        parts, tail = read_parts(problem), read_tail(problem)
        if isinstance(parts, str) or isinstance(tail, str):
            return Support(False, parts if isinstance(parts, str) else str(tail))
        why = self._refusal(parts[0]) or tail_refusal(problem, tail)
        return Support(False, why) if why else Support(True, runtime_symbols=runtime_symbols(problem))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights of every part, one after another; then the epilogue's."""
        problem, arrays = code.problem, named(code, weights)
        given = arrays[problem.layer.inputs[1]]
        dense = given if given.ndim == 4 else given[:, :, None]
        packed = [self._packed(code.tactic, part, part.weights(dense)).ravel() for part in parts_of(problem)]
        outputs = parts_of(problem)[0].geometry.outputs
        return [np.concatenate(packed), *pack_epilogue(problem, tail_of(problem), bias_of(problem), outputs, arrays)]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        parts = parts_of(problem)
        rows = epilogue_rows(problem, tail_of(problem), bias_of(problem), parts[0].geometry.outputs)
        routine, skipped = Routine(problem, tactic, target, packed=1 + rows), 0
        for part in parts:
            self._writer(routine, part, skipped).phase()
            nothing = np.zeros((1, 1, 1, 1), np.float32)
            shape = part.weights(np.broadcast_to(nothing, _shape(problem))).shape
            skipped += self._packed(tactic, part, np.zeros(shape, np.float32)).nbytes
        return routine.code()

    @abstractmethod
    def _refusal(self, part: Part) -> str:
        """Why parts like this one are not computed; empty when they are."""

    @abstractmethod
    def _packed(self, tactic: Tactic, part: Part, dense: Array) -> Array:
        """A part's weights [outputs, C / groups, rows, columns] as its code reads them."""

    @abstractmethod
    def _writer(self, routine: Routine, part: Part, skipped: int) -> DirectWriter | DepthwiseWriter:
        """What writes the code of a part, whose weights begin after ``skipped`` bytes."""


class TransposedConvolution(_Transposed):
    """float32, 1 or 2 spatial axes, up to 64 places between strides; constant weights; pointwise tails."""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        parts, tail, target = parts_of(problem), tail_of(problem), host_target()
        found = []
        for recipe in recipes(max(parts, key=_taps).geometry, target):
            if recipe.planes and reads_source(problem, tail):
                continue
            if recipe.order == "k" or any(_edges(part, recipe) > MAX_EDGES for part in parts):
                continue
            formats = operand_formats(problem, tail, LINEAR if recipe.planes else NCHW16C, NCHW16C)
            strided = strided_operands(problem, formats)
            found.append(Tactic(recipe.key, formats, (NCHW16C,), reads_strided=strided, writes_strided=(0,)))
        return found[:_MOST]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        """As of direct convolution, over all parts."""
        recipe, target = Recipe.parse(tactic.key), host_target()
        return sum(cycles(part.geometry, recipe, target) for part in parts_of(problem)) / 3e9 / problem.threads

    def _refusal(self, part: Part) -> str:
        grouping = read_grouping(part.geometry)
        return grouping if isinstance(grouping, str) else ""

    def _packed(self, tactic: Tactic, part: Part, dense: Array) -> Array:
        recipe = Recipe.parse(tactic.key)
        return pack_weights(dense, part.geometry, recipe.tile.blocks, recipe.planes)

    def _writer(self, routine: Routine, part: Part, skipped: int) -> DirectWriter:
        recipe = Recipe.parse(routine.tactic.key)
        return DirectWriter(routine, part.geometry, recipe, routine.problem.layer.inputs[0], skipped=skipped)


class DepthwiseTransposedConvolution(_Transposed):
    """One filter for each channel, as layers that enlarge images bilinearly have; otherwise as the other kernel."""

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        parts, tail = parts_of(problem), tail_of(problem)
        formats = operand_formats(problem, tail, NCHW16C, NCHW16C)
        strided = strided_operands(problem, formats)
        fitting = set.intersection(*({*widths(part.geometry, host_target())} for part in parts))
        return [
            Tactic(f"w{width}", formats, (NCHW16C,), reads_strided=strided, writes_strided=(0,))
            for width in sorted(fitting, reverse=True) or [1]
        ]

    def _refusal(self, part: Part) -> str:
        return "" if part.geometry.depthwise else "computes one filter for each channel only"

    def _packed(self, tactic: Tactic, part: Part, dense: Array) -> Array:
        return pack_windows(dense[:, 0])

    def _writer(self, routine: Routine, part: Part, skipped: int) -> DepthwiseWriter:
        return DepthwiseWriter(routine, part.geometry, int(routine.tactic.key[1:]), routine.target, skipped)


def _taps(part: Part) -> int:
    return len(part.taps[0]) * len(part.taps[1])


def _edges(part: Part, recipe: Recipe) -> int:
    return sum(run.taps is not None for run in row_runs(part.geometry, recipe.tile))


def _shape(problem: Problem) -> tuple[int, ...]:
    """Of the weights, with two spatial axes."""
    shape = problem.types[problem.layer.inputs[1]].concrete({})
    return shape if len(shape) == 4 else (*shape[:2], 1, *shape[2:])
