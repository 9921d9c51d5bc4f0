"""Boxes selected for each class of each image by non-maximum suppression (ONNX NonMaxSuppression)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenonrt.contracts import Code, Problem, Support, Tactic

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import FLOAT, I64, Index, Value
from tenonrt_kernel_llvm.indexing import empty, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.sorting import place_of
from tenonrt_kernel_llvm.suppression import MAX_SCRATCH, Candidates, Suppression
from tenonrt_kernel_llvm.target import Target

_BOX = 16  # bytes of four numbers


class SelectBoxesKernel(LlvmKernel):
    """float32 of known sizes; boxes and scores that are computed."""

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("phases", workspace=_BOX * int(math.prod(problem.types[0].concrete({})[:2]))),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        _Boxes(routine).emit()
        return routine.code(scratch=_suppression(problem).scratch)


def _refusal(problem: Problem) -> str:
    if problem.kinds != ("SelectBoxes",) or len(problem.activations) != 2:
        return f"selects from boxes and scores that are computed, not {'+'.join(problem.kinds)}"
    if (
        problem.symbols
        or empty(*problem.types)
        or {problem.types[t].dtype for t in problem.layer.inputs} != {"float32"}
    ):
        return "sizes that are known, in float32"
    if any(given.role == "host" for given in problem.inputs):
        return "an input is on the host"
    return "more boxes than can be sorted at once" if _suppression(problem).scratch > MAX_SCRATCH else ""


def _suppression(problem: Problem) -> Suppression:
    count = known(problem.types[problem.layer.inputs[0]].shape[1])
    return Suppression(count, count, problem.layer.attrs.overlap, problem.layer.attrs.most)


class _Boxes:
    """Writes two phases: corners in order, then classes."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn, self.attrs = routine, routine.function, routine.problem.layer.attrs
        self.boxes, self.scores = (operand.pointer for operand in routine.inputs)
        self.indices, self.counts = (operand.pointer for operand in routine.outputs)
        self.images, self.classes, self.count = (known(d) for d in routine.inputs[1].type.shape)

    def emit(self) -> None:
        items_phase(self.routine, [self.images, self.count], 16, self._corners)
        self.routine.phase(self.images * self.classes, self._class)

    def _corners(self, at: list[Index]) -> None:
        """One box as its lower corner, then its upper one."""
        fn, offset = self.fn, times(plus(times(at[0], self.count), at[1]), _BOX)
        a = [fn.load(FLOAT, self.boxes, plus(offset, 4 * k)) for k in range(4)]
        for k in (0, 1):
            if self.attrs.centered:
                half = a[k + 2] * 0.5
                low, high = a[k] - half, a[k] + half
            else:
                low, high = m.minimum(fn, a[k], a[k + 2]), m.maximum(fn, a[k], a[k + 2])
            fn.store(low, self.routine.workspace, plus(offset, 4 * k))
            fn.store(high, self.routine.workspace, plus(offset, 4 * k + 8))

    def _class(self, unit: Value) -> None:
        fn, most, least = self.fn, self.attrs.most, self.attrs.least
        scores = fn.offset(self.scores, unit * (4 * self.count))
        boxes = fn.offset(self.routine.workspace, unit // self.classes * (_BOX * self.count))
        target = fn.offset(self.indices, unit * (8 * most))
        total = _suppression(self.routine.problem).emit(
            fn, self.routine.scratch,
            Candidates(
                lambda place: fn.load(FLOAT, scores, place * 4),
                lambda place, score: fn.compare("ogt" if least is not None else "oge", score,
                                                -math.inf if least is None else least),
                lambda place: [fn.load(FLOAT, boxes, place * _BOX + 4 * k) for k in range(4)],
            ),
            lambda key, number: fn.store(place_of(fn, key), target, number * 8, 8),
        )  # fmt: skip
        fn.store(total, self.counts, unit * 8, 8)

        def clear(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.constant(I64, 0), target, index * 8, 8)
            return ()

        fn.loop(total, most, clear)
