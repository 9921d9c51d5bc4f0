"""Maxima of 2x2 pixels at the end of a region: of rows in registers, the even ones are compared with the odd ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
from tenonrt.contracts import GraphView, Layer, Problem, only_reader, window_axes

from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.emitter import Function, Value
from tenonrt_kernel_llvm.operations import BINARY
from tenonrt_kernel_llvm.target import BLOCK


def with_pooling(view: GraphView, region: Sequence[Layer]) -> Sequence[Layer] | None:
    """The region and the pooling that alone reads its result."""
    reader = only_reader(view, region[-1].outputs[0])
    return (*region, reader) if reader is not None and reader.kind == "Pooling" else None


@dataclass(frozen=True)
class Halved:
    """A region's problem without its pooling, where it has one; ``factor`` is what sizes are divided by."""

    before: Problem
    factor: int

    def even(self, geometry: Geometry) -> Geometry:
        """Without the last row and column where no maximum is taken of them."""
        y, x = (replace(axis, output=axis.output // self.factor * self.factor) for axis in (geometry.y, geometry.x))
        return replace(geometry, y=y, x=x)


def read_halved(problem: Problem) -> Halved | str:
    """What a problem computes before it pools, or why its pooling is not of 2x2 pixels."""
    last = problem.layers[-1]
    if last.kind != "Pooling":
        return Halved(problem, 1)
    attrs, source = last.attrs, problem.types[last.inputs[0]]
    if attrs.function != "max" or attrs.with_indices or source.rank != 4:
        return "a pooling other than the maxima of images"
    sizes = [size for size in source.shape[2:] if isinstance(size, int)]
    if len(sizes) != 2:
        return "an image whose size changes at run time"
    axes = window_axes(
        attrs.window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode,
        attrs.ceil,
    )  # fmt: skip
    plain = all(axis.window == axis.stride == 2 and axis.dilation == 1 for axis in axes)
    if not plain or any(a.padding(n) != (0, 0) or a.positions(n) != n // 2 for a, n in zip(axes, sizes, strict=True)):
        return "a pooling of other windows than 2x2 that touch"
    if problem.outputs != last.outputs or 1 in sizes:
        return "pixels that are wanted before they are pooled"
    before = msgspec.structs.replace(
        problem, layers=problem.layers[:-1], types=problem.types[:-1], outputs=(last.inputs[0],)
    )
    return Halved(before, 2)


def halve(fn: Function, rows: Sequence[Sequence[Value]]) -> list[Value]:
    """Vectors of two rows to half as many, rounded up, of the maxima; NaN where one of the four is NaN."""
    tall = [BINARY["max"](fn, a, b) for a, b in zip(*rows, strict=True)]
    found = []
    for first in range(0, len(tall), 2):
        pair = (tall[first], tall[min(first + 1, len(tall) - 1)])
        even, odd = (fn.shuffle(*pair, range(start, 2 * BLOCK, 2)) for start in (0, 1))
        found.append(BINARY["max"](fn, even, odd))
    return found
