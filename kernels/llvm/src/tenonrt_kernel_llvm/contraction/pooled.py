"""The mean of each channel's image as a second result of a depthwise convolution, as squeeze-and-excite wants it.

A row's results are added up while they are in registers. The sums of rows wait in the workspace, and a second phase
makes means of them, so that the image is not read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
from tenonrt.contracts import NCHW16C, Dimension, GraphView, Layer, Problem

from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES
from tenonrt_kernel_llvm.emitter import Value, vector
from tenonrt_kernel_llvm.reduction_layout import Operation, operation
from tenonrt_kernel_llvm.routine import Routine

_KINDS = frozenset({"Reduce", "Pooling"})


@dataclass(frozen=True)
class Pooled:
    """A problem up to the tensor that is pooled, and which of the whole problem's outputs the two are.

    mean None: nothing is pooled, and the problem is the whole one.
    """

    problem: Problem
    result: int = 0
    mean: int | None = None

    def workspace(self, geometry: Geometry) -> Dimension:
        """Bytes that the sums of rows take."""
        return 0 if self.mean is None else geometry.batch * (geometry.output_blocks * geometry.y.output * BLOCK_BYTES)


def regions_with_mean(view: GraphView, region: Sequence[Layer]) -> Iterator[Sequence[Layer]]:
    """The region, and the region with what may be a mean over its images, where others read these too."""
    yield region
    readers = {id(reader): reader for reader in view.consumers(region[-1].outputs[0])}
    pools = [reader for reader in readers.values() if reader.kind in _KINDS]
    if len(readers) > 1 and len(pools) == 1:
        yield (*region, pools[0])


def read_pooled(problem: Problem) -> Pooled:
    """What is pooled, where the last layer is a mean over whole images that keeps its axes."""
    last = problem.layers[-1]
    whole, pooled, result = Pooled(problem), last.inputs[0], last.outputs[0]
    if last.kind not in _KINDS or sorted(problem.outputs) != sorted((pooled, result)):
        return whole
    source, mean = problem.types[pooled], problem.types[result]
    alone = msgspec.structs.replace(problem, layers=(last,), types=(source,))
    if operation(alone) != Operation("mean", tuple(range(2, source.rank))):
        return whole
    if mean.rank != source.rank or not NCHW16C.fits(mean.rank) or mean.dtype != "float32":
        return whole
    before = msgspec.structs.replace(problem, layers=problem.layers[:-1], outputs=(pooled,))
    return Pooled(before, problem.outputs.index(pooled), problem.outputs.index(result))


class Means:
    """Writes what adds rows up, and the phase that makes means of their sums. output: which of the outputs those are.

    lanes: of the vectors that rows are summed in.
    """

    def __init__(self, routine: Routine, geometry: Geometry, output: int, lanes: int) -> None:
        self.routine, self.fn, self.geometry = routine, routine.function, geometry
        self.output, self.vector = routine.outputs[output], vector(lanes)
        self.parts = range(0, BLOCK_BYTES, 4 * lanes)

    def zeros(self) -> list[Value]:
        """Sums of nothing, one for each part of a block that a vector holds."""
        return [self.fn.zero(self.vector)] * len(self.parts)

    def keep(self, image: Value, block: Value, y: Value, sums: Sequence[Value]) -> None:
        """The sums of a row, for the second phase."""
        at = self.fn.offset(self._rows(image, block), y * BLOCK_BYTES)
        for part, total in zip(self.parts, sums, strict=True):
            self.fn.store(total, at, part)

    def phase(self) -> None:
        """The means, a block of channels to a unit."""
        fn, geometry, blocks = self.fn, self.geometry, self.geometry.output_blocks
        share = 1.0 / (geometry.y.output * geometry.x.output)

        def unit(number: Value) -> None:
            image, block = number // blocks, number % blocks
            rows = self._rows(image, block)

            def add(y: Value, carried: list[Value]) -> Sequence[Value]:
                at = fn.offset(rows, y * BLOCK_BYTES)
                return [total + fn.load(self.vector, at, k) for total, k in zip(carried, self.parts, strict=True)]

            sums = fn.loop(0, geometry.y.output, add, self.zeros())
            target = fn.offset(self.output.pointer, image * self.output.strides[0])
            target = fn.offset(target, block * BLOCK_BYTES)
            for part, total in zip(self.parts, sums, strict=True):
                fn.store(total * share, target, part)

        self.routine.phase(geometry.batch * blocks, unit)

    def _rows(self, image: Value, block: Value) -> Value:
        """Where the sums of a block's rows are."""
        geometry = self.geometry
        number = image * geometry.output_blocks + block
        return self.fn.offset(self.routine.workspace, number * (geometry.y.output * BLOCK_BYTES))


def total_of(values: Sequence[Value]) -> Value:
    """Their sum, by halves, which is short and exact."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    total: Value = total_of(values[:middle]) + total_of(values[middle:])
    return total
