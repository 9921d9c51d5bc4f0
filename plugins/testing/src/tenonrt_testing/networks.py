"""Random small networks over the installed layers, and their meaning by the references."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tenonrt.contracts import Array, TensorType, dtype_name, is_float
from tenonrt.graph.graph import Graph, Tensor
from tenonrt.graph.network import Network
from tenonrt.plugins.registry import LAYERS, Registry

from tenonrt_testing.examples import SeededRun

Step = Callable[["Drawing", Tensor], Tensor | None]


@dataclass
class Drawing:
    """A network while it is drawn."""

    network: Network
    data: Any  # hypothesis' draw function
    rng: np.random.Generator
    made: list[Tensor] = field(default_factory=list)

    def weights(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def positive(self, *shape: int) -> Array:
        return (np.abs(self.weights(*shape)) + 0.5).astype(np.float32)

    def add(self, kind: str, inputs: Sequence[Any], **attrs: Any) -> Tensor:
        return self.network.add(kind, inputs, attrs)[0]

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.data(st.sampled_from(values))


def _convolution(drawing: Drawing, x: Tensor) -> Tensor | None:
    if len(x.type.shape) != 4:
        return None
    channels, size = x.type.concrete({})[1], drawing.one_of([1, 3])
    weights = drawing.weights(drawing.one_of([2, 3]), channels, size, size)
    bias = drawing.weights(len(weights)) if drawing.one_of([True, False]) else None
    padding = (size // 2, size // 2)
    return drawing.add("Convolution", [x, weights, bias], pre_padding=padding, post_padding=padding)


def _batch_normalization(drawing: Drawing, x: Tensor) -> Tensor | None:
    if x.type.rank < 2:
        return None
    n = x.type.concrete({})[1]
    parameters = [drawing.weights(n), drawing.weights(n), drawing.weights(n), drawing.positive(n)]
    return drawing.add("BatchNormalization", [x, *parameters])


def _scale(drawing: Drawing, x: Tensor) -> Tensor | None:
    if x.type.rank < 2:
        return None
    n = x.type.concrete({})[1]
    return drawing.add("Scale", [x, drawing.weights(n), drawing.weights(n)], mode="channel")


def _activation(drawing: Drawing, x: Tensor) -> Tensor:
    return drawing.add("Activation", [x], function=drawing.one_of(["relu", "sigmoid", "tanh"]))


def _elementwise(drawing: Drawing, x: Tensor) -> Tensor:
    same = [t for t in drawing.made if t.type == x.type]
    other = drawing.one_of([*same, drawing.weights(*x.type.concrete({})), drawing.weights()])
    operation = drawing.one_of(["sum", "prod", "sub"])
    return drawing.add("Elementwise", [x, other], operation=operation)


def _concatenation(drawing: Drawing, x: Tensor) -> Tensor | None:
    same = [t for t in drawing.made if t.type == x.type]
    return drawing.add("Concatenation", [x, drawing.one_of(same)], axis=x.type.rank - 1) if same else None


def _transpose(drawing: Drawing, x: Tensor) -> Tensor:
    order = drawing.data(st.permutations(range(x.type.rank)))
    return drawing.add("Transpose", [x], permutation=tuple(order))


def _reshape(drawing: Drawing, x: Tensor) -> Tensor:
    shape = x.type.concrete({})
    target = drawing.one_of([(-1,), (shape[0], -1), (*shape, 1), shape])
    return drawing.add("Reshape", [x, np.array(target, np.int64)])


def _identity(drawing: Drawing, x: Tensor) -> Tensor:
    return drawing.add("Identity", [x])


def _softmax(drawing: Drawing, x: Tensor) -> Tensor | None:
    return drawing.add("Softmax", [x], axis=-1) if x.type.rank else None


_STEPS: Mapping[str, Step] = {
    "Convolution": _convolution,
    "BatchNormalization": _batch_normalization,
    "Scale": _scale,
    "Activation": _activation,
    "Elementwise": _elementwise,
    "Concatenation": _concatenation,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Identity": _identity,
    "Softmax": _softmax,
}
_SHAPES = [(1, 2, 4, 4), (2, 3, 3, 5), (2, 6), (5,), (1, 1, 1, 1)]


@st.composite
def networks(draw: Any, registry: Registry, max_layers: int = 7) -> Network:
    """A network of up to ``max_layers`` of the installed kinds, with one to three outputs, some layers dead."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    drawing = Drawing(Network(registry=registry), draw, rng)
    installed = [kind for kind in _STEPS if kind in registry.names(LAYERS)]
    for number in range(draw(st.integers(1, 2))):
        shape = draw(st.sampled_from(_SHAPES))
        drawing.made.append(drawing.network.input(f"x{number}", TensorType(shape)))
    for _ in range(draw(st.integers(1, max_layers)) if installed else 0):
        source = draw(st.sampled_from(drawing.made[-3:]))
        made = _STEPS[draw(st.sampled_from(installed))](drawing, source)
        if made is not None:
            drawing.made.append(made)
    outputs = {t.name: t for t in [drawing.made[-1], *draw(st.lists(st.sampled_from(drawing.made), max_size=2))]}
    for number, tensor in enumerate(outputs.values()):
        drawing.network.output(tensor, f"y{number}")
    return drawing.network


def graph_inputs(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random float64 values of a graph's inputs by name."""
    rng = np.random.default_rng(seed)
    return {t.name: rng.standard_normal(t.type.concrete({})) for t in graph.inputs}


def run_graph(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a graph without subgraphs, by its layers' references, floating point in float64."""
    values: dict[Tensor, Array] = {t: inputs[t.name] for t in graph.inputs}
    for layer in graph.layers:
        arrays = [None if t is None else _value(t, values) for t in layer.inputs]
        with np.errstate(all="ignore"):
            results = layer.layer_type.reference(layer.attrs, arrays, SeededRun())
        values.update(zip(layer.outputs, results, strict=True))
    return {name: _value(tensor, values) for name, tensor in graph.outputs.items()}


def _value(tensor: Tensor, values: Mapping[Tensor, Array]) -> Array:
    if tensor.constant is None:
        return values[tensor]
    wide = is_float(dtype_name(tensor.constant.dtype))
    return tensor.constant.astype(np.float64) if wide else tensor.constant
