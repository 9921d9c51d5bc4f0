"""One native function of the device's ABI: operands with their strides, symbols, and code for every unit of each phase.

A kernel makes a `Routine`, describes each phase by its number of units and the code of one unit, and takes the `Code`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt.contracts import Code, Dim, Dimension, NativeCode, Problem, Symbol, Tactic, TensorType

from tenonrt_kernel_llvm.assembly import assemble
from tenonrt_kernel_llvm.emitter import I32, I64, PTR, Function, Index, Value
from tenonrt_kernel_llvm.target import Target

ALIGNMENT = 64


@dataclass(frozen=True)
class Operand:
    """An output or an activation. shape and strides (bytes) are those of the physical axes, blocks innermost."""

    type: TensorType
    pointer: Value
    shape: tuple[Index, ...]
    strides: tuple[Index, ...]


class Routine:
    """Writes the function while its methods are called, in the order in which it will run."""

    def __init__(self, problem: Problem, tactic: Tactic, target: Target, packed: int = 0) -> None:
        self.problem, self.tactic, self.target = problem, tactic, target
        parameters = [(PTR, "buffers"), (PTR, "symbols"), (PTR, "scratch"), (I64, "begin"), (I64, "end")]
        self.function = fn = Function(target, "kernel", parameters, I32)
        self._buffers, self._symbols, self.scratch, self._begin, self._end = fn.parameters
        self._values = {s.name: fn.load(I64, self._symbols, 8 * i, 8) for i, s in enumerate(problem.symbols)}
        self._slot = len(problem.symbols)  # of the next stride
        self._buffer = 0
        self._strided: list[int] = []
        self.outputs = [
            self._operand(number, tactic.output_format(k), k in tactic.writes_strided)
            for k, number in enumerate(problem.outputs)
        ]
        self.inputs = [
            self._operand(number, tactic.input_format(k), k in tactic.reads_strided)
            for k, number in enumerate(problem.activations)
        ]
        self.packed = [self._pointer() for _ in range(packed)]
        self.workspace = self._pointer()
        self._phases: list[Dimension] = []

    def dimension(self, dimension: Dimension) -> Index:
        """A dimension: an integer, or the value it has at run time."""
        if not isinstance(dimension, Dim):
            return int(dimension)
        total: Index = 0
        for monomial, coefficient in dimension.terms:
            term: Index = coefficient
            for atom in monomial:
                if not isinstance(atom, Symbol):
                    raise ValueError(f"{dimension} is no polynomial of symbols, so its value cannot be computed here")
                term = self._values[atom.name] * term
            total = term + total if isinstance(term, Value) else total + term
        return total

    def phase(self, units: Dimension, body: Callable[[Value], None]) -> None:
        """``body(unit)`` for each of these units, 0 to units - 1, on whatever threads there are."""
        fn, first = self.function, self.dimension(sum(self._phases, start=0))
        self._phases.append(units)

        def run() -> None:
            def one(unit: Value, _: list[Value]) -> Sequence[Value]:
                body(unit - first)
                return ()

            fn.loop(self._begin, self._end, one)

        last = first + self.dimension(units)
        inside = fn.emit("i1", (
            f"and i1 {fn.compare('sge', self._begin, first).text}, {fn.compare('slt', self._begin, last).text}"
        ))  # fmt: skip
        fn.when(inside, run)

    def repeat(self, count: int, units: int, body: Callable[[Value, Value], None]) -> None:
        """``body(turn, unit)`` for each of these units: a phase for each of ``count`` turns, of one piece of code."""
        fn, first = self.function, self.dimension(sum(self._phases, start=0))
        self._phases += [units] * count

        def run() -> None:
            turn = (self._begin - first) // units
            start = turn * units + first

            def one(unit: Value, _: list[Value]) -> Sequence[Value]:
                body(turn, unit - start)
                return ()

            fn.loop(self._begin, self._end, one)

        last = first + count * units
        inside = fn.emit("i1", (
            f"and i1 {fn.compare('sge', self._begin, first).text}, {fn.compare('slt', self._begin, last).text}"
        ))  # fmt: skip
        fn.when(inside, run)

    def check(self, condition: Value, status: int = 1) -> None:
        """Return with this status, which makes the step fail, unless the condition holds."""
        self.function.ensure(condition, status)

    def code(self, scratch: int = 0) -> Code:
        """Assemble it. scratch: bytes that each thread needs."""
        self.function.ret(self.function.constant(I32, 0))
        blob, entry = assemble(self.target, [self.function])
        native = NativeCode(
            tuple(self._phases), entry, scratch, tuple(self._strided), self.target.features, self.target.machine
        )
        return Code(self.problem, self.tactic, blob, native=native)

    def _pointer(self) -> Value:
        self._buffer += 1
        return self.function.load(PTR, self._buffers, 8 * (self._buffer - 1), 8)

    def _operand(self, number: int, format: object, strided: bool) -> Operand:
        type = self.problem.types[number].stored_as(format)  # type: ignore[arg-type]
        pointer = self._pointer()
        shape = tuple(self.dimension(d) for d in type.physical_shape)
        if not strided:
            return Operand(type, pointer, shape, dense_strides(shape, type.numpy.itemsize))
        self._strided.append(self._buffer - 1)
        loaded = [self.function.load(I64, self._symbols, 8 * (self._slot + axis), 8) for axis in range(len(shape))]
        self._slot += len(shape)
        inner = len(type.format.blocks)  # blocks stay dense: their strides are known
        dense = dense_strides(shape, type.numpy.itemsize)
        outer = len(shape) - inner
        return Operand(type, pointer, shape, (*loaded[:outer], *dense[outer:]))


def dense_strides(shape: Sequence[Index], itemsize: int) -> tuple[Index, ...]:
    """Row-major strides in bytes; a symbolic size may only be the first."""
    strides: list[Index] = []
    stride: Index = itemsize
    for size in reversed(shape):
        strides.append(stride)
        stride = size * stride if isinstance(size, Value) else stride * size
    return tuple(reversed(strides))
