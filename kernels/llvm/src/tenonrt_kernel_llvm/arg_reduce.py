"""Where the largest or smallest element of an axis is: values and their places side by side in vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenonrt.contracts import Code, Problem, Support, Tactic, normalize_axis

from tenonrt_kernel_llvm.emitter import I32, I64, Function, Index, Value, is_float, lanes_of, vector
from tenonrt_kernel_llvm.indexing import empty, items_phase, known, plus, times
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.operations import MEMORY
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.rows import (
    State,
    column_tiles,
    each_column_tile,
    leading_sizes,
    linear_index,
    row_ways,
    sweep,
)
from tenonrt_kernel_llvm.target import BLOCK, Target

_LIMITS = {
    ("float32", "max"): -math.inf,
    ("float32", "min"): math.inf,
    ("int32", "max"): -(2**31),
    ("int32", "min"): 2**31 - 1,
}


class ArgReduceKernel(LlvmKernel):
    """ArgMax and ArgMin of float32 and int32 along any axis, the first or the last of equals; NaN beats all."""

    def supports(self, problem: Problem) -> Support:
        source = problem.types[0]
        if source.dtype not in ("float32", "int32"):
            return Support(False, f"places of extremes of {source.dtype}")
        if empty(*problem.types):
            return Support(False, "an empty tensor")
        axis = normalize_axis(problem.layer.attrs.axis, source.rank)
        return Support(True, runtime_symbols=runtime_symbols(problem) if axis or not problem.symbols else ())

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target)
        _ArgReduce(routine).emit()
        return routine.code()


class _ArgReduce:
    """The code of one search."""

    def __init__(self, routine: Routine) -> None:
        self.routine, self.fn = routine, routine.function
        attrs, source = routine.problem.layer.attrs, routine.problem.types[0]
        axis = normalize_axis(attrs.axis, source.rank)
        self.outer = leading_sizes(source.shape[:axis])
        self.size = known(source.shape[axis])
        self.inner = math.prod(known(d) for d in source.shape[axis + 1 :])
        self.type = vector(BLOCK, MEMORY[source.dtype])
        self.limit = _LIMITS[source.dtype, attrs.operation]
        self.largest, self.last = attrs.operation == "max", bool(attrs.select_last)
        self.source, self.result = routine.inputs[0].pointer, routine.outputs[0].pointer

    def emit(self) -> None:
        """One phase over rows, or over tiles of columns."""
        if self.inner == 1:
            items_phase(self.routine, self.outer, self.size, self._row_at)
            return
        work = self.size * min(self.inner, 2 * BLOCK)
        items_phase(self.routine, [*self.outer, column_tiles(self.inner)], work, self._columns_at)

    # comparing -------------------------------------------------------------------------------------------------------

    def _beats(self, x: Value, best: Value) -> Value:
        """Where x is strictly better, or is the first NaN."""
        fn, word = self.fn, "gt" if self.largest else "lt"
        if not is_float(x.type):
            return fn.compare(f"s{word}", x, best)
        return fn.binary("and", fn.compare(f"u{word}", x, best), fn.compare("ord", best, best))

    def _follows(self, x: Value, best: Value) -> Value:
        """Where x, which comes later, is taken."""
        if not self.last:
            return self._beats(x, best)
        fn, word = self.fn, "ge" if self.largest else "le"
        if not is_float(x.type):
            return fn.compare(f"s{word}", x, best)
        return fn.binary("or", fn.compare(f"o{word}", x, best), fn.compare("uno", x, x))

    def _meet(self, a: State, b: State) -> State:
        """The better of two results each; of equal ones, that whose place comes first, or last."""
        fn = self.fn
        better = self._beats(b[0], a[0])
        equal = fn.compare("oeq" if is_float(a[0].type) else "eq", a[0], b[0])
        if is_float(a[0].type):
            both = fn.binary("and", fn.compare("uno", a[0], a[0]), fn.compare("uno", b[0], b[0]))
            equal = fn.binary("or", equal, both)
        place = fn.compare("sgt" if self.last else "slt", b[1], a[1])
        take = fn.binary("or", better, fn.binary("and", equal, place))
        return [fn.select(take, b[0], a[0]), fn.select(take, b[1], a[1])]

    # rows ------------------------------------------------------------------------------------------------------------

    def _row_at(self, at: list[Index]) -> None:
        fn, row = self.fn, linear_index(at, self.outer)
        source = fn.offset(self.source, times(row, 4 * self.size))
        lanes = fn.lane_constants(I32, range(BLOCK))
        # Lanes that no element reaches must lose against all others that are as bad as the limit.
        places = fn.constant(lanes.type, -1) if self.last else lanes
        first = [fn.constant(self.type, self.limit), places]

        def visit(at: Index, count: int, state: State) -> State:
            x = fn.load_lanes(self.type, source, count, at)
            taken = self._follows(x, state[0])
            if count < BLOCK:
                taken = fn.binary("and", taken, fn.lane_constants("i1", [int(k < count) for k in range(BLOCK)]))
            here = lanes + _splat_int32(fn, at)
            return [fn.select(taken, x, state[0]), fn.select(taken, here, state[1])]

        state, *others = sweep(fn, self.size, visit, [first] * row_ways(self.size, 2))
        for other in others:
            state = self._meet(state, other)
        fn.store(fn.convert("sext", self._fold(state), I64), fn.offset(self.result, times(row, 8)), 0, 8)

    def _fold(self, state: State) -> Value:
        """The place of the best lane."""
        fn, lanes = self.fn, lanes_of(state[0].type)
        while lanes > 2:
            lanes //= 2
            low, high = ([fn.shuffle(v, v, range(at, at + lanes)) for v in state] for at in (0, lanes))
            state = self._meet(low, high)
        low, high = ([fn.extract(v, lane) for v in state] for lane in (0, 1))
        return self._meet(low, high)[1]

    # columns ---------------------------------------------------------------------------------------------------------

    def _columns_at(self, at: list[Index]) -> None:
        start = times(linear_index(at[:-1], self.outer), 4 * self.size * self.inner)
        target = times(linear_index(at[:-1], self.outer), 8 * self.inner)
        each_column_tile(
            self.fn,
            self.inner,
            at[-1],
            lambda byte, counts: self._columns(plus(start, byte), plus(target, times(byte, 2)), counts),
        )

    def _columns(self, start: Index, end: Index, counts: Sequence[int]) -> None:
        fn = self.fn
        source, target = fn.offset(self.source, start), fn.offset(self.result, end)
        first = [fn.constant(self.type, self.limit), fn.zero(vector(BLOCK, I32))]

        def row(number: Value, carried: list[Value]) -> list[Value]:
            at, place = times(number, 4 * self.inner), _splat_int32(fn, times(number, 4))
            found: list[Value] = []
            for k, count in enumerate(counts):
                best, where = carried[2 * k : 2 * k + 2]
                x = fn.load_lanes(self.type, source, count, plus(at, 4 * BLOCK * k))
                taken = self._follows(x, best)
                found += [fn.select(taken, x, best), fn.select(taken, place, where)]
            return found

        carried = fn.loop(0, self.size, row, first * len(counts))
        for k, count in enumerate(counts):
            fn.store_lanes(fn.convert("sext", carried[2 * k + 1], I64), target, count, 8 * BLOCK * k, 8)


def _splat_int32(fn: Function, byte: Index) -> Value:
    """The number of the float at a byte, in every lane."""
    if isinstance(byte, int):
        return fn.constant(vector(BLOCK, I32), byte // 4)
    number = byte // 4
    return fn.splat(fn.emit(I32, f"trunc i64 {number.text} to i32"), BLOCK)
