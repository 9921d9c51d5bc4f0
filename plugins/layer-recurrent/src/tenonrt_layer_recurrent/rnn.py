"""RNN: the plain recurrent layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from tenonrt.contracts import Array, Attributes, Case

from tenonrt_layer_recurrent.examples import examples
from tenonrt_layer_recurrent.sequence import Cell, DirectionOperands, RecurrentAttributes, RecurrentLayer, split_bias


class RNNLayer(RecurrentLayer):
    """ONNX RNN: ``h = f(x W^T + h R^T + Wb + Rb)``."""

    Attrs: ClassVar[type[Attributes]] = RecurrentAttributes
    gates: ClassVar[int] = 1
    default_activations: ClassVar[tuple[str, ...]] = ("Tanh",)

    def cell(self, attrs: RecurrentAttributes, operands: DirectionOperands) -> tuple[Array, Cell]:
        recurrence = operands.arrays[2]
        assert recurrence is not None
        input_bias, recurrent_bias = split_bias(operands.arrays[3], attrs.hidden_size, recurrence)

        def step(projected: Array, states: tuple[Array, ...]) -> tuple[Array, ...]:
            return (operands.activate(0, projected + states[0] @ recurrence.T),)

        return input_bias + recurrent_bias, step

    def cases(self) -> Iterable[Case]:
        yield from examples(self, RecurrentAttributes)
        attrs = RecurrentAttributes(hidden_size=3, activations=("Affine",), alphas=(0.5,), betas=(0.1,))
        yield from examples(self, RecurrentAttributes, [("affine", attrs)])
