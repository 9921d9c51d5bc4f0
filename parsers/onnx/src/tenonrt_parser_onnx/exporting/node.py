"""What a rule writes a layer with: its inputs by name, nodes, and constants of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper
from tenonrt.contracts import Array, Layer, Tensor, TensorType, UnsupportedError

from tenonrt_parser_onnx.dtypes import CODES

LOWEST_VERSION = 18  # since when reductions take their axes as an input, Resize has axes, Split a number of outputs


class Graph(Protocol):
    """The graph that nodes go to."""

    def add(self, node: onnx.NodeProto, domain: str, number: int) -> None: ...
    def fresh(self, wanted: str) -> str: ...
    def name(self, tensor: Tensor) -> str: ...
    def constant(self, values: Array, name: str) -> str: ...


class Writer:
    """One layer on its way into a graph."""

    def __init__(
        self, graph: Graph, layer: Layer, inputs: Sequence[Tensor | None], graphs: Sequence[onnx.GraphProto]
    ) -> None:
        self._graph = graph
        self._layer = layer
        self.tensors = inputs
        self.graphs = graphs
        self.attrs = layer.attrs

    @property
    def kind(self) -> str:
        return self._layer.kind

    def tensor(self, index: int) -> Tensor:
        """An input that the layer always has."""
        tensor = self.tensors[index]
        assert tensor is not None, f"{self._layer.name} lacks input {index}"
        return tensor

    def given(self, index: int) -> Tensor | None:
        return self.tensors[index] if index < len(self.tensors) else None

    def input(self, index: int) -> str:
        """The name of an input, empty where it is absent."""
        tensor = self.given(index)
        return "" if tensor is None else self._graph.name(tensor)

    @property
    def inputs(self) -> list[str]:
        return [self.input(index) for index in range(len(self.tensors))]

    @property
    def output(self) -> TensorType:
        return self._layer.outputs[0].type

    @property
    def outputs(self) -> list[str]:
        return [self._graph.name(tensor) for tensor in self._layer.outputs]

    def node(self, operator: str, inputs: Sequence[str], *, domain: str = "", since: int = 0, **attrs: Any) -> None:
        """The node whose outputs are the layer's. Attributes that are None are left out, so are absent last inputs."""
        self._write(operator, inputs, self.outputs, domain, since, attrs)

    def copy(
        self,
        operator: str,
        domain: str,
        version: int,
        attributes: Iterable[onnx.AttributeProto],
        outputs: Sequence[str],
    ) -> None:
        """The node with attributes as a model had them, for a version of the operator's domain."""
        node = helper.make_node(operator, self.inputs, outputs, self._graph.fresh(self._layer.name), domain=domain)
        node.attribute.extend(attributes)
        self._graph.add(node, domain, version if domain else max(version, LOWEST_VERSION))

    def part(self, operator: str, inputs: Sequence[str], *, since: int = 0, **attrs: Any) -> str:
        """A node of one output before the last."""
        name = self._graph.fresh(f"{self._layer.name}/{operator}")
        self._write(operator, inputs, [name], "", since, attrs)
        return name

    def integers(self, index: int) -> str:
        """An input as int64, which some operators insist on."""
        tensor = self.tensor(index)
        if tensor.type.dtype == "int64":
            return self.input(index)
        if tensor.constant is not None:
            return self.constant(tensor.constant)
        return self.part("Cast", [self.input(index)], to=CODES["int64"])

    def constant(self, values: Any, like: TensorType | str | None = None) -> str:
        """An initializer; ``like`` is a tensor's type or an element type, int64 by default."""
        dtype: Any = np.int64
        if isinstance(like, TensorType):
            dtype = like.numpy
        elif like is not None:
            dtype = like
        return self._graph.constant(np.asarray(values, dtype), f"{self._layer.name}/constant")

    def _write(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        domain: str,
        since: int,
        attrs: dict[str, Any],
    ) -> None:
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        known = {name: value for name, value in attrs.items() if value is not None}
        node = helper.make_node(operator, given, outputs, self._graph.fresh(self._layer.name), domain=domain, **known)
        self._graph.add(node, domain, max(since, 1 if domain else first_version(operator)))


@cache
def first_version(operator: str) -> int:
    """The lowest operator set from 18 on that has a standard operator."""
    for number in range(LOWEST_VERSION, onnx.defs.onnx_opset_version() + 1):
        if onnx.defs.has(operator, number, ""):
            return number
    raise UnsupportedError(f"the installed onnx does not know the operator {operator}", [])


# Since which operator set there are element types; all others are older than any set that is written.
_TYPES = {"float8_e8m0fnu": 24, "float8": 19, "float4": 23, "int4": 21, "uint4": 21, "int2": 25, "uint2": 25}


def type_version(dtype: str) -> int:
    """The lowest operator set that has an element type; `UnsupportedError` where none has."""
    if dtype not in CODES:
        raise UnsupportedError(f"ONNX has no element type {dtype}", [])
    return next((number for prefix, number in _TYPES.items() if dtype.startswith(prefix)), LOWEST_VERSION)


def code(dtype: str) -> int:
    """ONNX's number of an element type."""
    type_version(dtype)
    return CODES[dtype]


def flag(value: bool) -> int:
    """As ONNX has booleans."""
    return int(value)
