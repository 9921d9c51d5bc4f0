"""GRU: the gated recurrent unit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Attributes, Case

from tenonrt_layer_recurrent.examples import examples
from tenonrt_layer_recurrent.sequence import Cell, DirectionOperands, RecurrentAttributes, RecurrentLayer, split_bias


class GRUAttributes(RecurrentAttributes, frozen=True, kw_only=True):
    """linear_before_reset: the reset gate scales the projected state, not the state."""

    linear_before_reset: bool = False


class GRULayer(RecurrentLayer):
    """ONNX GRU, gates in the order update, reset, hidden: ``h' = (1 - z) * candidate + z * h``."""

    Attrs: ClassVar[type[Attributes]] = GRUAttributes
    gates: ClassVar[int] = 3
    default_activations: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    def cell(self, attrs: GRUAttributes, operands: DirectionOperands) -> tuple[Array, Cell]:
        recurrence = operands.arrays[2]
        assert recurrence is not None
        size = attrs.hidden_size
        input_bias, recurrent_bias = split_bias(operands.arrays[3], 3 * size, recurrence)
        gates, candidate = recurrence[: 2 * size].T, recurrence[2 * size :].T
        inner = recurrent_bias[2 * size :]
        joined = input_bias + recurrent_bias
        if attrs.linear_before_reset:
            joined[2 * size :] = input_bias[2 * size :]

        def step(projected: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            hidden = states[0]
            update, reset = np.split(operands.activate(0, projected[:, : 2 * size] + hidden @ gates), 2, 1)
            if attrs.linear_before_reset:
                recurrent = reset * (hidden @ candidate + inner)
            else:
                recurrent = (reset * hidden) @ candidate
            proposed = operands.activate(1, projected[:, 2 * size :] + recurrent)
            return ((1 - update) * proposed + update * hidden,)

        return joined, step

    def cases(self) -> Iterable[Case]:
        linear = GRUAttributes(hidden_size=3, linear_before_reset=True)
        hard = GRUAttributes(hidden_size=3, activations=("HardSigmoid", "Softsign"), alphas=(0.3,), betas=(0.4,))
        yield from examples(self, GRUAttributes)
        yield from examples(self, GRUAttributes, [("linear before reset", linear), ("hard sigmoid", hard)])
