"""A graph builder that writes down what it is given and, fed with values, computes the plainer layers at once."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from tenonrt.contracts import GraphError, LayerMapping, Range, TensorInfo, TensorType, dtype_name, numpy_dtype

PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
MAPPINGS: dict[str, str] = PYPROJECT["project"]["entry-points"]["tenonrt.mappings"]

Array = np.ndarray[Any, Any]
Attrs = dict[str, Any]


@dataclass(eq=False)
class RecordedTensor:
    name: str
    type: TensorType
    constant: Array | None = None
    range: Range | None = None
    value: Array | None = None  # what it holds for the values fed; not known to mappings

    @property
    def info(self) -> TensorInfo:
        small = self.constant is not None and self.constant.size <= 1024
        return TensorInfo(self.type, "device", self.constant.astype(object) if small else None)


@dataclass(eq=False)
class RecordedLayer:
    kind: str
    name: str
    inputs: list[RecordedTensor | None]
    attrs: Attrs
    outputs: list[RecordedTensor]
    graphs: Sequence[RecordingBuilder]
    source: str


@dataclass(eq=False)
class RecordingBuilder:
    name: str = "network"
    feeds: Mapping[str, Array] = field(default_factory=dict)
    inputs: list[RecordedTensor] = field(default_factory=list)
    outputs: dict[str, RecordedTensor] = field(default_factory=dict)
    layers: list[RecordedLayer] = field(default_factory=list)
    constants: list[RecordedTensor] = field(default_factory=list)
    extra: Mapping[str, LayerMapping] = field(default_factory=dict)
    types: Mapping[str, Sequence[TensorType]] = field(default_factory=dict)  # of a layer's outputs, where known
    source: str = ""

    @property
    def kinds(self) -> list[str]:
        return [layer.kind for layer in self.layers]

    @property
    def only(self) -> RecordedLayer:
        (layer,) = self.layers
        return layer

    def input(self, name: str, type: TensorType, place: str = "device") -> RecordedTensor:
        tensor = RecordedTensor(name, type, value=self.feeds.get(name))
        self.inputs.append(tensor)
        return tensor

    def constant(self, values: Array, name: str | None = None) -> RecordedTensor:
        kind = TensorType(values.shape, dtype_name(values.dtype))
        tensor = RecordedTensor(name or f"constant{len(self.constants)}", kind, values, value=values)
        self.constants.append(tensor)
        return tensor

    def output(self, tensor: RecordedTensor, name: str | None = None) -> None:
        name = name or tensor.name
        if name in self.outputs:
            raise GraphError(f"two outputs {name!r}")
        self.outputs[name] = tensor

    def add(
        self,
        kind: str,
        inputs: Sequence[Any],
        attrs: Any = None,
        *,
        name: str | None = None,
        graphs: Sequence[RecordingBuilder] = (),
    ) -> list[RecordedTensor]:
        tensors = [self.constant(i) if isinstance(i, np.ndarray) else i for i in inputs]
        assert name is not None
        if attrs and "no attribute" in attrs:  # the core checks the names of all attributes before anything else
            raise GraphError(f"layer {name!r} has an attribute that {kind} does not know")
        if any(layer.name == name for layer in self.layers[-50:]):
            raise GraphError(f"two layers {name!r}")
        outputs = self._outputs(kind, tensors, dict(attrs or {}), name, graphs)
        self.layers.append(RecordedLayer(kind, name, tensors, dict(attrs or {}), outputs, graphs, self.source))
        return outputs

    def subgraph(self, name: str) -> RecordingBuilder:
        return RecordingBuilder(name, self.feeds, extra=self.extra)

    @contextmanager
    def origin(self, source: str) -> Iterator[None]:
        before, self.source = self.source, source
        yield
        self.source = before

    def mapping(self, format: str, domain: str, type: str) -> LayerMapping | None:
        key = f"{format}:{domain}:{type}"
        if key in self.extra or key not in MAPPINGS:
            return self.extra.get(key)
        module, function = MAPPINGS[key].split(":")
        found: LayerMapping = getattr(import_module(module), function)
        return found

    def _outputs(
        self, kind: str, inputs: list[Any], attrs: Attrs, name: str, graphs: Sequence[RecordingBuilder]
    ) -> list[RecordedTensor]:
        values = [None if t is None else t.value for t in inputs]
        if kind in COMPUTED and all(t is None or t.value is not None for t in inputs):
            result = np.asarray(COMPUTED[kind](attrs, *values))
            return [RecordedTensor(name, TensorType(result.shape, dtype_name(result.dtype)), value=result)]
        if name in self.types:
            return [RecordedTensor(f"{name}:{i}", type) for i, type in enumerate(self.types[name])]
        # Without values the type is a guess, which no test may rely on.
        type = next((t.type for t in inputs if t is not None), TensorType((), "float32"))
        return [RecordedTensor(f"{name}:{i}", type) for i in range(_count(kind, attrs, inputs, graphs))]


def _count(kind: str, attrs: Attrs, inputs: list[Any], graphs: Sequence[RecordingBuilder]) -> int:
    if kind == "Split":
        return int(attrs["parts"]) if "parts" in attrs else inputs[1].type.shape[0]
    if kind == "Pooling":
        return 2 if attrs.get("with_indices") else 1
    if kind == "LayerNormalization":
        return 3 if attrs["statistics"] else 1
    if graphs:
        return len(graphs[0].outputs) - (kind == "Loop")
    return {"LSTM": 3, "GRU": 2, "RNN": 2, "TopK": 2}.get(kind, 1)


# A second reading of the layer vocabulary, for the layers that mappings compose others of.

_BINARY: dict[str, Callable[..., Any]] = {
    "sum": np.add, "sub": np.subtract, "prod": np.multiply, "div": np.divide, "pow": np.power, "max": np.maximum,
    "min": np.minimum, "greater_equal": np.greater_equal, "less_equal": np.less_equal, "mod": np.mod, "fmod": np.fmod,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Any]] = {"abs": np.abs, "sqrt": np.sqrt, "exp": np.exp, "neg": np.negative}
_REDUCE: dict[str, Callable[..., Any]] = {"sum": np.sum, "mean": np.mean, "max": np.max}


def _reshape(attrs: Attrs, x: Array, shape: Array) -> Array:
    copies = attrs.get("zero_copies", True)
    return x.reshape([x.shape[i] if d == 0 and copies else d for i, d in enumerate(shape.tolist())])


def _softmax(attrs: Attrs, x: Array) -> Array:
    axis = attrs.get("axis", -1)
    shifted = x - x.max(axis, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return logs if attrs.get("log") else np.exp(logs)


def _hardmax(attrs: Attrs, x: Array) -> Array:
    axis = attrs["axis"]
    result = np.zeros_like(x)
    np.put_along_axis(result, np.expand_dims(x.argmax(axis), axis), 1, axis)
    return result


def _matmul(attrs: Attrs, a: Array, b: Array) -> Array:
    return (a.T if attrs["transpose_a"] else a) @ (b.T if attrs["transpose_b"] else b)


def _connected(attrs: Attrs, x: Array, weights: Array, bias: Array | None = None) -> Array:
    product = x @ weights.T
    return product if bias is None else product + bias


def _groups(attrs: Attrs, x: Array, scale: Array, bias: Array) -> Array:
    parts = x.reshape(x.shape[0], attrs["groups"], -1)
    parts = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + attrs["epsilon"])
    column = (-1, *[1] * (x.ndim - 2))
    return parts.reshape(x.shape) * scale.reshape(column) + bias.reshape(column)


_ACTIVATION: dict[str, Callable[..., Any]] = {
    "clip": lambda attrs, x: np.clip(x, attrs.get("alpha"), attrs.get("beta")),
    "relu": lambda attrs, x: np.maximum(x, 0),
}

COMPUTED: dict[str, Callable[..., Any]] = {
    "Elementwise": lambda attrs, a, b: _BINARY[attrs["operation"]](a, b),
    "Unary": lambda attrs, x: _UNARY[attrs["operation"]](x),
    "Reduce": lambda attrs, x: _REDUCE[attrs["operation"]](x, axis=attrs.get("axes"), keepdims=attrs["keep_dims"]),
    "Select": lambda attrs, c, a, b: np.where(c, a, b),
    "Activation": lambda attrs, x: _ACTIVATION[attrs["function"]](attrs, x),
    "Identity": lambda attrs, x: x,
    "Transpose": lambda attrs, x: np.transpose(x, attrs["permutation"] or None),
    "Reshape": _reshape,
    "Squeeze": lambda attrs, x: np.squeeze(x, attrs.get("axes")),
    "Unsqueeze": lambda attrs, x: np.expand_dims(x, attrs["axes"]),
    "Flatten": lambda attrs, x: x.reshape(int(np.prod(x.shape[: attrs["axis"]])), -1),
    "Expand": lambda attrs, x, shape: np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),
    "Shape": lambda attrs, x: np.array(x.shape[attrs.get("start", 0) : attrs.get("end")], np.int64),
    "Fill": lambda attrs, shape: np.full(shape, attrs["value"], numpy_dtype(attrs["dtype"])),
    "Range": lambda attrs, start, limit, delta: np.arange(start, limit, delta),
    "NonZero": lambda attrs, x: np.array(np.nonzero(x), np.int64),
    "Gather": lambda attrs, x, indices: np.take(x, indices, attrs["axis"]),
    "Softmax": _softmax,
    "Hardmax": _hardmax,
    "MatrixMultiply": _matmul,
    "FullyConnected": _connected,
    "GroupNormalization": _groups,
}
