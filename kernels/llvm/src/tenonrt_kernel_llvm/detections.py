"""Detections selected: boxes decoded, then sorted and thinned out for each class, then the best of each image (SSD).

Three phases: blocks of boxes, classes, images. What a class keeps waits in the workspace as keys of score and box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import Code, Problem, Support, Tactic

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import FLOAT, I8, I64, Index, Value
from tenonrt_kernel_llvm.indexing import empty, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.sorting import KEY, place_of, score_of, sort
from tenonrt_kernel_llvm.suppression import MAX_SCRATCH, Candidates, Suppression
from tenonrt_kernel_llvm.target import Target

_BOX, _ROW = 16, 28  # bytes of four and of seven numbers


class DetectionsKernel(LlvmKernel):
    """float32 of known sizes, by a threshold that does not fall (eta 1)."""

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("phases", workspace=_sizes(problem).workspace),)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        sizes = _sizes(problem)
        routine = Routine(problem, tactic, target, packed=len(problem.constants))
        _Selection(routine, sizes).emit()
        return routine.code(scratch=sizes.scratch(problem.layer.attrs))


def _refusal(problem: Problem) -> str:
    if problem.kinds != ("SelectDetections",):
        return f"selects detections, not {'+'.join(problem.kinds)}"
    if problem.symbols or empty(*problem.types) or problem.types[0].dtype != "float32":
        return "sizes that are known, in float32"
    if any(given.role == "host" for given in problem.inputs):
        return "an input is on the host"
    if problem.layer.attrs.eta < 1:
        return "a threshold that falls"
    if not _sizes(problem).classes:
        return "no class that is put out"
    return "more boxes than can be sorted at once" if _sizes(problem).scratch(problem.layer.attrs) > MAX_SCRATCH else ""


@dataclass(frozen=True)
class Sizes:
    """images; priors; codes: boxes of each prior; classes that are put out; per_class: the most that each keeps."""

    images: int
    priors: int
    codes: int
    classes: tuple[int, ...]
    per_class: int

    @property
    def boxes(self) -> int:
        """Bytes of the decoded boxes of an image."""
        return self.priors * self.codes * _BOX

    @property
    def kept(self) -> int:
        """Bytes of what a class keeps: how many, then their keys."""
        return KEY * (1 + self.per_class)

    @property
    def workspace(self) -> int:
        return self.images * (self.boxes + len(self.classes) * self.kept)

    def suppression(self, attrs: Any) -> Suppression:
        """Of each class."""
        return Suppression(self.priors, self.per_class, attrs.threshold)

    def scratch(self, attrs: Any) -> int:
        """What a class needs; or two sets of keys, and which of them are put out."""
        return max(self.suppression(attrs).scratch, (2 * KEY + 1) * len(self.classes) * self.per_class)


def _sizes(problem: Problem) -> Sizes:
    attrs = problem.layer.attrs
    location, priors = (problem.types[problem.layer.inputs[k]].shape for k in (0, 2))
    count = known(priors[2]) // 4
    chosen = tuple(label for label in range(attrs.classes) if label != attrs.background)
    most = count if attrs.top < 0 else min(attrs.top, count)
    return Sizes(known(location[0]), count, known(location[1]) // (4 * count), chosen, max(most, 1))


class _Selection:
    """Writes the three phases."""

    def __init__(self, routine: Routine, sizes: Sizes) -> None:
        self.routine, self.fn, self.sizes = routine, routine.function, sizes
        problem = routine.problem
        self.attrs = problem.layer.attrs
        pointers = dict(zip(problem.activations, (operand.pointer for operand in routine.inputs), strict=True))
        pointers |= dict(zip(problem.constants, routine.packed, strict=True))
        self.location, self.scores, self.priors = (pointers[t] for t in problem.layer.inputs)
        self.rows, self.counts = (operand.pointer for operand in routine.outputs)
        self.most = known(problem.types[problem.outputs[0]].shape[1])
        self.boxes = routine.workspace
        self.lists = self.fn.offset(routine.workspace, sizes.images * sizes.boxes)

    def emit(self) -> None:
        sizes = self.sizes
        items_phase(self.routine, [sizes.images, sizes.priors, sizes.codes], 64, self._decode)
        self.routine.phase(sizes.images * len(sizes.classes), self._class)
        self.routine.phase(sizes.images, self._image)

    # boxes -----------------------------------------------------------------------------------------------------------

    def _decode(self, at: list[Index]) -> None:
        """One box from what the network says of it."""
        fn, (image, prior, code) = self.fn, at
        number = plus(times(plus(times(image, self.sizes.priors), prior), self.sizes.codes), code)
        given = [fn.load(FLOAT, self.location, plus(times(number, _BOX), 4 * k)) for k in range(4)]
        corners = [fn.load(FLOAT, self.priors, plus(times(prior, _BOX), 4 * k)) for k in range(4)]
        if not self.attrs.scaled:
            variances = fn.offset(self.priors, self.sizes.priors * _BOX)
            given = [step * fn.load(FLOAT, variances, plus(times(prior, _BOX), 4 * k)) for k, step in enumerate(given)]
        for k, value in enumerate(self._corners(given, corners)):
            fn.store(value, self.boxes, plus(times(number, _BOX), 4 * k))

    def _corners(self, steps: list[Value], prior: list[Value]) -> list[Value]:
        if self.attrs.code == "corner":
            return [p + step for p, step in zip(prior, steps, strict=True)]
        sides = [prior[k + 2] - prior[k] for k in (0, 1)]
        if self.attrs.code == "corner_size":
            return [p + step * sides[k % 2] for k, (p, step) in enumerate(zip(prior, steps, strict=True))]
        centres = [(prior[k] + prior[k + 2]) * 0.5 + steps[k] * sides[k] for k in (0, 1)]
        halves = [m.exp(self.fn, steps[k + 2]) * sides[k] * 0.5 for k in (0, 1)]
        return [centres[0] - halves[0], centres[1] - halves[1], centres[0] + halves[0], centres[1] + halves[1]]

    # classes ---------------------------------------------------------------------------------------------------------

    def _class(self, unit: Value) -> None:
        """Score and box of all that one class of an image keeps, best first."""
        fn, sizes, scratch = self.fn, self.sizes, self.routine.scratch
        image, place = unit // len(sizes.classes), unit % len(sizes.classes)
        label = self._label(place)
        code = label if sizes.codes > 1 else fn.constant(I64, 0)
        boxes = fn.offset(self.boxes, image * sizes.boxes + code * _BOX)
        scores = fn.offset(self.scores, image * (4 * sizes.priors * self.attrs.classes) + label * 4)
        target = fn.offset(self.lists, unit * sizes.kept)
        total = sizes.suppression(self.attrs).emit(
            fn,
            scratch,
            Candidates(
                lambda place: fn.load(FLOAT, scores, place * (4 * self.attrs.classes)),
                lambda place, score: fn.compare("ogt", score, self.attrs.confidence),
                lambda place: [fn.load(FLOAT, boxes, place * (_BOX * sizes.codes) + 4 * k) for k in range(4)],
            ),
            lambda key, number: fn.store(key, target, number * KEY + KEY, 8),
        )
        fn.store(total, target, 0, 8)

    def _label(self, place: Value) -> Value:
        """The class at this place among those that are put out."""
        background, fn = self.attrs.background, self.fn
        if not 0 <= background < self.attrs.classes:
            return place
        return place + fn.convert("zext", fn.compare("sge", place, background), I64)

    # images ----------------------------------------------------------------------------------------------------------

    def _image(self, image: Value) -> None:
        """The rows of an image, by class, and how many there are."""
        fn, sizes = self.fn, self.sizes
        total = self._each(image, lambda key, label, number: self._collect(key, number))
        flags = fn.offset(self.routine.scratch, 2 * KEY * len(sizes.classes) * sizes.per_class)

        def flag(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.convert("zext", fn.compare("sle", total, self.most), I8), flags, index, 1)
            return ()

        fn.loop(0, total, flag)
        fn.when(fn.compare("sgt", total, self.most), lambda: self._best(total, flags))
        written = fn.stack(8)
        fn.store(fn.constant(I64, 0), written, 0, 8)
        self._each(image, lambda key, label, number: self._put(image, key, label, (flags, number, written)))
        count = fn.load(I64, written, 0, 8)
        fn.store(count, self.counts, image * 8, 8)
        empty = fn.offset(self.rows, image * (self.most * _ROW))

        def clear(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.constant(FLOAT, 0.0), empty, index * 4)
            return ()

        fn.loop(count * 7, self.most * 7, clear)

    def _each(self, image: Value, body: Callable[[Value, Value, Value], None]) -> Value:
        """``body(key, label, number)`` for all that the classes of an image keep, counted through: how many."""
        fn, sizes = self.fn, self.sizes

        def of_class(place: Value, carried: list[Value]) -> Sequence[Value]:
            source = fn.offset(self.lists, (image * len(sizes.classes) + place) * sizes.kept)
            count = fn.load(I64, source, 0, 8)

            def one(index: Value, _: list[Value]) -> Sequence[Value]:
                body(fn.load(I64, source, index * KEY + KEY, 8), self._label(place), carried[0] + index)
                return ()

            fn.loop(0, count, one)
            return [carried[0] + count]

        return fn.loop(0, len(sizes.classes), of_class, [fn.constant(I64, 0)])[0]

    def _collect(self, key: Value, number: Value) -> None:
        """The key's score with its number among all, to be sorted."""
        fn = self.fn
        upper = key - place_of(fn, key)
        fn.store(fn.binary("or", upper, number), self.routine.scratch, number * KEY, 8)

    def _best(self, total: Value, flags: Value) -> None:
        """Flag the best of all that were collected."""
        fn, sizes, scratch = self.fn, self.sizes, self.routine.scratch
        most = len(sizes.classes) * sizes.per_class
        ordered = sort(fn, scratch, fn.offset(scratch, KEY * most), total, most)

        def flag(index: Value, _: list[Value]) -> Sequence[Value]:
            fn.store(fn.constant(I8, 1), flags, place_of(fn, fn.load(I64, ordered, index * KEY, 8)), 1)
            return ()

        fn.loop(0, self.most, flag)

    def _put(self, image: Value, key: Value, label: Value, where: tuple[Value, Value, Value]) -> None:
        """Write a row if it is flagged."""
        fn, sizes, (flags, number, written) = self.fn, self.sizes, where

        def row() -> None:
            index = fn.load(I64, written, 0, 8)
            target = fn.offset(self.rows, image * (self.most * _ROW) + index * _ROW)
            code = label if sizes.codes > 1 else fn.constant(I64, 0)
            box = image * sizes.boxes + (place_of(fn, key) * sizes.codes + code) * _BOX
            named = [fn.convert("sitofp", value, FLOAT) for value in (image, label)]
            values = [*named, score_of(fn, key), *(fn.load(FLOAT, self.boxes, box + 4 * k) for k in range(4))]
            for k, value in enumerate(values):
                fn.store(value, target, 4 * k)
            fn.store(index + 1, written, 0, 8)

        fn.when(fn.compare("ne", fn.load(I8, flags, number, 1), 0), row)
