"""What LSTM, GRU and RNN share: ONNX's operand layouts, directions, sequence lengths and the walk over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Dimension,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    differ,
    draw,
    is_float,
    numpy_dtype,
    required,
)

from tenonrt_layer_recurrent.activations import Activation, resolve

Direction = Literal["forward", "reverse", "bidirectional"]
# One step of a cell: the projected input and the state of all sequences give the next state, hidden first.
Cell = Callable[[Array, tuple[Array, ...]], tuple[Array, ...]]


class RecurrentAttributes(Attributes, frozen=True, kw_only=True):
    """hidden_size: elements of the hidden state. clip: bound on the inputs of activations, None for no bound.

    activations: the cell's functions for each direction in turn; empty for the defaults. layout 0: time is the first
    axis of the sequences, 1: the batch is.
    """

    hidden_size: int
    direction: Direction = "forward"
    activations: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()
    clip: float | None = None
    layout: Literal[0, 1] = 0

    @property
    def directions(self) -> int:
        return 2 if self.direction == "bidirectional" else 1


class RecurrentLayer(LayerType):
    """One cell per subclass. Outputs: all hidden states, the last one, then the other last states."""

    inputs: ClassVar[tuple[str, ...]] = (
        "input",
        "weights",
        "recurrence",
        "bias?",
        "sequence_lengths?",
        "initial_hidden?",
    )
    gates: ClassVar[int]
    states: ClassVar[int] = 1
    default_activations: ClassVar[tuple[str, ...]]

    @abstractmethod
    def cell(self, attrs: Any, operands: DirectionOperands) -> tuple[Array, Cell]:
        """The bias that may join the input projection [gates * hidden], and the step."""

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        given = [*inputs, *(None,) * (len(self.inputs) - len(inputs))]
        sequence = required(inputs, 3)[0]
        if sequence.rank != 3 or not is_float(sequence.dtype):
            raise ValueError(f"the input is {sequence.type}, expected floats with axes for time, batch and features")
        self._activations(attrs)
        time, batch = sequence.shape[:2] if attrs.layout == 0 else sequence.shape[1::-1]
        expected = self.operand_shapes(attrs, batch, sequence.shape[2])
        for name, info, shape in zip(self.inputs[1:], given[1:], expected, strict=True):
            _check(name.rstrip("?"), info, shape, sequence.dtype)
        return self._outputs(attrs, sequence, time, batch)

    def _outputs(self, attrs: Any, sequence: TensorInfo, time: Dimension, batch: Dimension) -> list[TensorInfo]:
        count, size = attrs.directions, attrs.hidden_size
        every = (time, count, batch, size) if attrs.layout == 0 else (batch, time, count, size)
        last = (count, batch, size) if attrs.layout == 0 else (batch, count, size)
        return [sequence.like(every), *(sequence.like(last) for _ in range(self.states))]

    def operand_shapes(self, attrs: Any, batch: Dimension, features: Dimension) -> list[tuple[Dimension, ...]]:
        """Expected shapes of the inputs after the first."""
        count, size = attrs.directions, attrs.hidden_size
        state = (count, batch, size) if attrs.layout == 0 else (batch, count, size)
        rows = self.gates * size
        return [(count, rows, features), (count, rows, size), (count, 2 * rows), (batch,), *(state,) * self.states]

    def _activations(self, attrs: Any) -> list[Activation]:
        names = attrs.activations or self.default_activations * attrs.directions
        expected = len(self.default_activations) * attrs.directions
        if len(names) != expected:
            raise ValueError(f"found {len(names)} activations, expected {expected}: {', '.join(names)}")
        return resolve(names, attrs.alphas, attrs.betas)

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        operands = SequenceOperands(self, attrs, arrays)
        results = [operands.run(d) for d in range(attrs.directions)]
        every = np.stack([r[0] for r in results], 1)
        lasts = [np.stack(parts) for parts in zip(*(r[1] for r in results), strict=True)]
        if attrs.layout == 1:
            every, lasts = every.transpose(2, 0, 1, 3), [last.swapaxes(0, 1) for last in lasts]
        return [np.ascontiguousarray(y).astype(operands.dtype, copy=False) for y in (every, *lasts)]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        """Weights are scaled so that activations do not saturate; lengths are from 1 to the number of steps."""
        steps = required(types, 1)[0].concrete({})[attrs.layout]
        return [None if t is None else _draw(t, steps, index, rng) for index, t in enumerate(types)]

    def reduction(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> Dimension:
        features: Dimension = 0 if inputs[0] is None else inputs[0].shape[-1]
        size: int = attrs.hidden_size
        return features + size

    def flops(self, attrs: Any, inputs: Sequence[TensorInfo | None], outputs: Sequence[TensorInfo]) -> Dimension:
        """The matrix products alone: two operations per weight, step and sequence."""
        return outputs[0].type.size * (2 * self.gates) * self.reduction(attrs, inputs)


def _draw(operand: TensorType, steps: int, index: int, rng: np.random.Generator) -> Array:
    if index == 4:  # sequence_lengths
        return rng.integers(min(steps, 1), steps + 1, operand.concrete({})).astype(operand.numpy)
    values = draw(operand, rng)
    scale = max(operand.concrete({})[-1], 1) ** -0.5 if index in {1, 2} else 1.0
    return np.asarray(values * values.dtype.type(scale), values.dtype)


def _check(name: str, info: TensorInfo | None, shape: tuple[Dimension, ...], dtype: str) -> None:
    if info is None:
        return
    wanted = "int32" if name == "sequence_lengths" else dtype
    expected = TensorType(shape, wanted)
    alike = info.rank == len(shape) and info.dtype == wanted
    if not alike or any(differ(a, b) for a, b in zip(info.shape, shape, strict=True)):
        raise ValueError(f"{name} is {info.type}, expected {expected}")


class DirectionOperands:
    """The operands of one direction, in the type of the computation, and its activations and clip."""

    def __init__(self, arrays: Sequence[Array | None], activations: Sequence[Activation], clip: float | None) -> None:
        self.arrays = arrays
        self._activations = activations
        self._clip = clip

    def activate(self, index: int, x: Array, clip: bool = True) -> Array:
        """Apply the cell's activation ``index``, to a clipped input unless told otherwise."""
        bounded = x if self._clip is None or not clip else np.clip(x, -self._clip, self._clip)
        return self._activations[index](bounded)


class SequenceOperands:
    """A layer's arrays with time first, widened to at least float32."""

    def __init__(self, layer: RecurrentLayer, attrs: Any, arrays: Sequence[Array | None]) -> None:
        self.layer, self.attrs = layer, attrs
        self.arrays = [*arrays, *(None,) * (len(layer.inputs) - len(arrays))]
        sequence = self.arrays[0]
        assert sequence is not None
        self.dtype = sequence.dtype
        self.kind = np.dtype(np.float64) if self.dtype == np.float64 else numpy_dtype("float32")
        self.sequence = (sequence if attrs.layout == 0 else sequence.swapaxes(0, 1)).astype(self.kind)
        self.lengths = self.arrays[4]

    def run(self, direction: int) -> tuple[Array, tuple[Array, ...]]:
        """Hidden states [time, batch, hidden] in the order of the input, and the last states [batch, hidden]."""
        layer, attrs = self.layer, self.attrs
        count = len(layer.default_activations)
        functions = layer._activations(attrs)[direction * count : (direction + 1) * count]
        picked = [None if a is None or i in {0, 4} else self._pick(i, direction) for i, a in enumerate(self.arrays)]
        operands = DirectionOperands(picked, functions, attrs.clip)
        bias, cell = layer.cell(attrs, operands)
        order = self._order() if attrs.direction == "reverse" or direction == 1 else None
        weights = picked[1]
        assert weights is not None
        projected = self.sequence @ weights.T + bias
        states = tuple(self._state(picked[5 + i]) for i in range(layer.states))
        every, last = _walk(projected if order is None else projected[order], states, cell, self.lengths)
        return every if order is None else every[order], last

    def _pick(self, index: int, direction: int) -> Array:
        array = self.arrays[index]
        assert array is not None
        is_state = 5 <= index < 5 + self.layer.states
        return (array[:, direction] if is_state and self.attrs.layout == 1 else array[direction]).astype(self.kind)

    def _state(self, given: Array | None) -> Array:
        shape = (self.sequence.shape[1], self.attrs.hidden_size)
        return np.zeros(shape, self.kind) if given is None else given

    def _order(self) -> tuple[Array, Array]:
        """The index that reverses each sequence within its length; it is its own inverse."""
        steps, batch = self.sequence.shape[:2]
        time = np.arange(steps)[:, None]
        lengths = np.full(batch, steps) if self.lengths is None else self.lengths
        return np.where(time < lengths, lengths - 1 - time, time), np.arange(batch)[None]


def _walk(
    projected: Array, states: tuple[Array, ...], cell: Cell, lengths: Array | None
) -> tuple[Array, tuple[Array, ...]]:
    """Step through time. Past its length a sequence keeps its state and puts out zeros."""
    every = np.zeros((*projected.shape[:2], states[0].shape[1]), projected.dtype)
    for time, inputs in enumerate(projected):
        following = cell(inputs, states)
        if lengths is None:
            states = following
            every[time] = states[0]
        else:
            alive = (time < lengths)[:, None]
            states = tuple(np.where(alive, new, old) for new, old in zip(following, states, strict=True))
            every[time] = np.where(alive, states[0], 0)
    return every, states


def split_bias(bias: Array | None, rows: int, like: Array) -> tuple[Array, Array]:
    """The input's and the recurrence's halves of a bias; zeros where there is none."""
    if bias is None:
        return np.zeros(rows, like.dtype), np.zeros(rows, like.dtype)
    return bias[:rows], bias[rows:]
