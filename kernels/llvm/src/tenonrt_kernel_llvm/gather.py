"""Gather and GatherND: rows picked by index. Indices that come at run time are checked: one outside fails the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt.contracts import Array, Code, Dim, Dimension, Problem, Support, Tactic, Weights, normalize_axis, product

from tenonrt_kernel_llvm.copying import copy_row
from tenonrt_kernel_llvm.emitter import I64, Index, Value
from tenonrt_kernel_llvm.indexing import chunk_for, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import Target

_OUTSIDE = 1  # status of an index outside its axis
_UNIT = 1 << 15  # bytes written by a unit


class GatherKernel(LlvmKernel):
    """Elements of 1, 2, 4 or 8 bytes; indices of 4 or 8 bytes, constant or computed, negative ones from the end."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds not in {("Gather",), ("GatherND",)}:
            return Support(False, f"only one Gather or GatherND, not {'+'.join(problem.kinds)}")
        data, indices = (problem.types[number] for number in problem.layer.inputs)
        if any(given.role == "host" for given in problem.inputs):
            return Support(False, "an input is on the host")
        if data.dtype == "string" or data.numpy.itemsize not in (1, 2, 4, 8):
            return Support(False, f"elements of 1, 2, 4 or 8 bytes, not {data.dtype}")
        if indices.dtype not in {"int32", "int64"}:
            return Support(False, f"indices of int32 or int64, not {indices.dtype}")
        return Support(True, runtime_symbols=runtime_symbols(problem))

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return (Tactic("rows"),)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The constants as they are."""
        return weights.constants

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target, packed=len(problem.constants))
        _Picker(routine, _picks(problem)).write()
        return routine.code()


@dataclass(frozen=True)
class _Picks:
    """Row r of the result belongs to slice r // count of the data and to the index vector r % count.

    sizes: of the axes that a vector addresses. own: whether each slice has index vectors of its own.
    """

    count: Dimension
    sizes: tuple[Dimension, ...]
    row: int  # elements
    one_slice: bool
    own: bool


def _picks(problem: Problem) -> _Picks:
    data, indices = (problem.types[number].shape for number in problem.layer.inputs)
    attrs = problem.layer.attrs
    if problem.kinds == ("Gather",):
        axis = normalize_axis(attrs.axis, len(data))
        count = product(indices)
        row = math.prod(known(d) for d in data[axis + 1 :])
        return _Picks(count, (data[axis],), row, one_slice=axis == 0, own=False)
    batch, depth = attrs.batch_dims, known(indices[-1])
    count = product(indices[batch:-1])
    row = math.prod(known(d) for d in data[batch + depth :])
    return _Picks(count, data[batch : batch + depth], row, one_slice=batch == 0, own=True)


class _Picker:
    """Writes one phase over the rows of the result."""

    def __init__(self, routine: Routine, picks: _Picks) -> None:
        self.routine, self.fn, self.picks = routine, routine.function, picks
        problem = routine.problem
        pointers = dict(zip(problem.activations, (operand.pointer for operand in routine.inputs), strict=True))
        pointers.update(zip(problem.constants, routine.packed, strict=True))
        self.data, self.indices = (pointers[number] for number in problem.layer.inputs)
        types = [problem.types[number] for number in problem.layer.inputs]
        self.item, self.wide = types[0].numpy.itemsize, types[1].numpy.itemsize
        self.sizes = [routine.dimension(size) for size in picks.sizes]
        self.bytes = picks.row * self.item

    def write(self) -> None:
        routine = self.routine
        rows: Dimension = routine.problem.types[routine.problem.outputs[0]].size
        shape = routine.problem.types[routine.problem.outputs[0]].shape
        lead: Dimension = shape[0] if shape and isinstance(shape[0], Dim) else 1
        inner = math.prod(known(d) for d in shape if not isinstance(d, Dim))
        if rows == 0 or inner == 0:
            routine.phase(0, lambda unit: None)
            return
        total = inner // self.picks.row
        chunk = min(total, chunk_for(self.bytes, total, _UNIT))
        if total * self.bytes <= _UNIT // 8:
            chunk = total
        chunks = -(-total // chunk)

        def unit(number: Value) -> None:
            first = times(number % chunks, chunk)
            begin = plus(times(number // chunks, total), first)
            end = plus(begin, plus(times(first, -1), self.fn.minimum(plus(first, chunk), total)))
            self.fn.loop(begin, end, self._row)

        routine.phase(lead * chunks, unit)

    def _row(self, row: Value, _: list[Value]) -> Sequence[Value]:
        fn, picks = self.fn, self.picks
        part: Index = 0
        vector: Index = row
        if not picks.one_slice:
            count = known(picks.count)
            part, vector = row // count, row % count
        at = fn.offset(self.indices, times(row if picks.own else vector, len(self.sizes) * self.wide))
        place: Index = part
        for position, size in enumerate(self.sizes):
            place = plus(times(place, size), self._index(at, position, size))
        source = fn.offset(self.data, times(place, self.bytes))
        target = fn.offset(self.routine.outputs[0].pointer, times(row, self.bytes))
        copy_row(fn, self.bytes, source, target)
        return ()

    def _index(self, at: Value, position: int, size: Index) -> Value:
        """An element of an index vector, counted from the beginning of its axis."""
        fn = self.fn
        index = fn.load(f"i{8 * self.wide}", at, position * self.wide, self.wide)
        if self.wide < 8:
            index = fn.convert("sext", index, I64)
        index = fn.select(fn.compare("slt", index, 0), index + size, index)
        self.routine.check(fn.compare("ult", index, size), _OUTSIDE)
        return index
