"""GRU of float32: gates in the order update, reset, hidden."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Code, Problem, Tactic

from tenonrt_kernel_llvm.emitter import Index, Value, vector
from tenonrt_kernel_llvm.recurrent import LINE, LlvmRecurrent, RecurrentWriter, Step
from tenonrt_kernel_llvm.target import BLOCK, Target

_UPDATE, _RESET, _HIDDEN = range(3)
_KEPT_UPDATE, _KEPT_RESET = 2, 3  # states between the two phases of a step


class LlvmGRU(LlvmRecurrent):
    """h' = (1 - z) * candidate + z * h. A step takes two phases where the reset gate scales the state itself."""

    kind: ClassVar[str] = "GRU"
    gates: ClassVar[int] = 3
    states: ClassVar[int] = 1
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    def kept(self, problem: Problem) -> int:
        return 2 if problem.layer.attrs.linear_before_reset else 4

    def biases(self, problem: Problem, bias: Array) -> Array:
        """The recurrence's bias of the candidate is apart where the reset gate scales it."""
        joined, apart = bias.sum(1), bias[:, 1].copy()
        if problem.layer.attrs.linear_before_reset:
            joined[:, _HIDDEN] = bias[:, 0, _HIDDEN]
        return np.stack([joined, apart], 1)

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        linear = problem.layer.attrs.linear_before_reset
        writer = _LinearWriter if linear else _Writer
        return writer(self, problem, tactic, target).code()


class _GRUWriter(RecurrentWriter):
    bias_kinds: ClassVar[int] = 2

    def step(self, at: Step) -> None:
        self.rows(lambda b, rows: self._tile(at, b, rows))

    def _tile(self, at: Step, b: Index, rows: int) -> None:
        raise NotImplementedError

    def _given(self, at: Step, b: Index, gate: int) -> Value:
        """The inputs' part of a gate."""
        return self.fn.load(vector(BLOCK), self.projected(at, b), gate * LINE)

    def _blend(self, at: Step, b: Value, update: Value, proposed: Value) -> None:
        fn = self.fn
        before = fn.load(vector(BLOCK), self.before(at, b, at.block))
        fresh = (fn.constant(update.type, 1.0) - update) * proposed
        self.finish(at, b, fn.fma(update, before, fresh))


class _LinearWriter(_GRUWriter):
    """The reset gate scales the projected state: all gates are sums over the same state."""

    def _tile(self, at: Step, b: Index, rows: int) -> None:
        fn = self.fn
        apart = fn.load(vector(BLOCK), self.bias(at.unit, 1), _HIDDEN * LINE)

        def start(gate: int, row: int) -> Value:
            return apart if gate == _HIDDEN else self._given(at, b + row, gate)

        self.gates_into_scratch(at, self.before(at, b), rows, range(3), start)
        self._each(rows, lambda row: self._cell(at, row, row + b))

    def _cell(self, at: Step, row: Value, b: Value) -> None:
        update = self.activate(at, 0, self.gate(_UPDATE, row))
        reset = self.activate(at, 0, self.gate(_RESET, row))
        inner = self.fn.fma(reset, self.gate(_HIDDEN, row), self._given(at, b, _HIDDEN))
        self._blend(at, b, update, self.activate(at, 1, inner))


class _Writer(_GRUWriter):
    """The reset gate scales the state: first both gates of all units, then the candidate from the scaled state."""

    phases_per_step: ClassVar[int] = 2

    def _tile(self, at: Step, b: Index, rows: int) -> None:
        first = self.fn.compare("eq", at.turn % 2, 0)
        self.fn.when(first, lambda: self._gates(at, b, rows), lambda: self._candidate(at, b, rows))

    def _gates(self, at: Step, b: Index, rows: int) -> None:
        self.gates_into_scratch(
            at, self.before(at, b), rows, (_UPDATE, _RESET), lambda gate, row: self._given(at, b + row, gate)
        )
        self._each(rows, lambda row: self._keep(at, row, row + b))

    def _keep(self, at: Step, row: Value, b: Value) -> None:
        fn = self.fn
        update = self.activate(at, 0, self.gate(_UPDATE, row))
        reset = self.activate(at, 0, self.gate(_RESET, row))
        before = fn.load(vector(BLOCK), self.before(at, b, at.block))
        fn.store(update, self.state(_KEPT_UPDATE, at.direction, b, at.block))
        fn.store(reset * before, self.state(_KEPT_RESET, at.direction, b, at.block))

    def _candidate(self, at: Step, b: Index, rows: int) -> None:
        source = self.state(_KEPT_RESET, at.direction, b, 0)
        self.gates_into_scratch(at, source, rows, (_HIDDEN,), lambda gate, row: self._given(at, b + row, gate))

        def blend(row: Value) -> None:
            update = self.fn.load(vector(BLOCK), self.state(_KEPT_UPDATE, at.direction, row + b, at.block))
            self._blend(at, row + b, update, self.activate(at, 1, self.gate(_HIDDEN, row)))

        self._each(rows, blend)
