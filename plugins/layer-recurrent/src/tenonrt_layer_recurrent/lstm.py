"""LSTM: the long short-term memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case, Dimension

from tenonrt_layer_recurrent.examples import examples
from tenonrt_layer_recurrent.sequence import Cell, DirectionOperands, RecurrentAttributes, RecurrentLayer, split_bias


class LSTMAttributes(RecurrentAttributes, frozen=True, kw_only=True):
    """input_forget: the forget gate is one minus the input gate."""

    input_forget: bool = False


class LSTMLayer(RecurrentLayer):
    """ONNX LSTM, gates in the order input, output, forget, cell; peepholes in the order input, output, forget.

    ``c' = f * c + i * g``, ``h' = o * activation(c')``; the output gate's peephole looks at ``c'``.
    ``clip`` bounds the gates, not the cell state that the last activation sees: ONNX can be read both ways, and
    onnxruntime does this.
    """

    Attrs: ClassVar[type[Attributes]] = LSTMAttributes
    inputs: ClassVar[tuple[str, ...]] = (*RecurrentLayer.inputs, "initial_cell?", "peephole?")
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2
    default_activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")

    def operand_shapes(self, attrs: Any, batch: Dimension, features: Dimension) -> list[tuple[Dimension, ...]]:
        return [*super().operand_shapes(attrs, batch, features), (attrs.directions, 3 * attrs.hidden_size)]

    def cell(self, attrs: LSTMAttributes, operands: DirectionOperands) -> tuple[Array, Cell]:
        recurrence, peephole = operands.arrays[2], operands.arrays[7]
        assert recurrence is not None
        input_bias, recurrent_bias = split_bias(operands.arrays[3], 4 * attrs.hidden_size, recurrence)
        if peephole is None:
            peephole = np.zeros(3 * attrs.hidden_size, recurrence.dtype)
        see_input, see_output, see_forget = np.split(peephole, 3)

        def step(projected: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            hidden, memory = states
            into, out, forget, new = np.split(projected + hidden @ recurrence.T, 4, 1)
            into = operands.activate(0, into + see_input * memory)
            kept = 1 - into if attrs.input_forget else operands.activate(0, forget + see_forget * memory)
            memory = kept * memory + into * operands.activate(1, new)
            out = operands.activate(0, out + see_output * memory)
            return out * operands.activate(2, memory, clip=False), memory

        return input_bias + recurrent_bias, step

    def cases(self) -> Iterable[Case]:
        coupled = LSTMAttributes(hidden_size=3, input_forget=True)
        relu = LSTMAttributes(hidden_size=3, activations=("HardSigmoid", "Relu", "LeakyRelu"), alphas=(0.3, 0.1))
        yield from examples(self, LSTMAttributes)
        yield from examples(self, LSTMAttributes, [("coupled gates", coupled), ("other functions", relu)])
