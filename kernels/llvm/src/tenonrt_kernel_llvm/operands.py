"""The tensors of a problem by number: outputs, activations and constants, and vectors of those that spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm import operations
from tenonrt_kernel_llvm.emitter import Function, Index, Value
from tenonrt_kernel_llvm.indexing import distance
from tenonrt_kernel_llvm.layouts import Layout
from tenonrt_kernel_llvm.routine import Routine


class Operands:
    """Pointers of a routine whose constants are packed as they are."""

    def __init__(self, routine: Routine) -> None:
        self.routine = routine
        problem = routine.problem
        self._pointers = {n: o.pointer for n, o in zip(problem.outputs, routine.outputs, strict=True)}
        self._pointers |= {n: o.pointer for n, o in zip(problem.activations, routine.inputs, strict=True)}
        self._pointers |= dict(zip(problem.constants, routine.packed, strict=True))
        self._scalars = operations.scalar_values(problem)

    def pointer(self, number: int) -> Value:
        return self._pointers[number]

    def spread(self, number: int, layout: Layout, at: Sequence[Index]) -> Spread:
        """An operand read at a tile's first element; ``layout`` is that over the whole result."""
        fn = self.routine.function
        pointer = fn.offset(self.pointer(number), distance(at, layout.strides))
        dtype = self.routine.problem.types[number].dtype
        return Spread(fn, dtype, pointer, layout.strides[-2], layout.strides[-1])


@dataclass(frozen=True)
class Spread:
    """Elements beside a tile's. row, column: bytes to the next row's and column's, 0 where one serves all."""

    function: Function
    dtype: str
    pointer: Value
    row: int
    column: int

    def load(self, row: int, lanes: int, count: int) -> Value:
        """A vector for a row of the tile; lanes from ``count`` on hold anything."""
        fn = self.function
        if self.column:
            return operations.load(fn, self.dtype, self.pointer, row * self.row, lanes, count)
        return fn.splat(operations.load(fn, self.dtype, self.pointer, row * self.row, 1), lanes)
