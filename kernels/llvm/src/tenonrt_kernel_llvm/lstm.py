"""LSTM of float32: gates in the order input, output, forget, cell."""

from __future__ import annotations

from typing import ClassVar

from tenonrt.contracts import Array, Code, Problem, Tactic

from tenonrt_kernel_llvm.emitter import Index, Value, vector
from tenonrt_kernel_llvm.recurrent import LINE, LlvmRecurrent, RecurrentWriter, Step
from tenonrt_kernel_llvm.target import BLOCK, Target

_INPUT, _OUTPUT, _FORGET, _CELL = range(4)
_MEMORY = 2  # the state of the cell in the workspace


class LlvmLSTM(LlvmRecurrent):
    """c' = f * c + i * g, h' = o * activation(c'); one phase for each step."""

    kind: ClassVar[str] = "LSTM"
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    defaults: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")

    def kept(self, problem: Problem) -> int:
        return 3

    def biases(self, problem: Problem, bias: Array) -> Array:
        joined: Array = bias.sum(1, keepdims=True)
        return joined

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        return _Writer(self, problem, tactic, target).code()


class _Writer(RecurrentWriter):
    def step(self, at: Step) -> None:
        self.rows(lambda b, rows: self._tile(at, b, rows))

    def _tile(self, at: Step, b: Index, rows: int) -> None:
        fn = self.fn

        def start(gate: int, row: int) -> Value:
            return fn.load(vector(BLOCK), self.projected(at, b + row), gate * LINE)

        self.gates_into_scratch(at, self.before(at, b), rows, range(4), start)
        self._each(rows, lambda row: self._cell(at, row, row + b))

    def _cell(self, at: Step, row: Value, b: Value) -> None:
        fn = self.fn
        place = self.state(_MEMORY, at.direction, b, at.block)
        memory = fn.load(vector(BLOCK), place)
        into = self.activate(at, 0, self.gate(_INPUT, row))
        if self.attrs.input_forget:
            kept = fn.constant(into.type, 1.0) - into
        else:
            kept = self.activate(at, 0, self.gate(_FORGET, row))
        memory = fn.fma(kept, memory, into * self.activate(at, 1, self.gate(_CELL, row)))
        fn.store(memory, place)
        out = self.activate(at, 0, self.gate(_OUTPUT, row))
        self.finish(at, b, out * self.activate(at, 2, memory, clip=False), (memory,))
