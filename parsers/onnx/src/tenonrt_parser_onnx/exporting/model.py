"""A network's graph as a ModelProto: names, types, initializers and nodes in topological order."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import onnx
from onnx import helper, numpy_helper
from tenonrt.contracts import Array, Layer, NetworkView, Symbol, Tensor, TensorType, UnsupportedError, dtype_name

from tenonrt_parser_onnx.exporting.node import LOWEST_VERSION, Writer, code, type_version
from tenonrt_parser_onnx.exporting.rules import rule_of


def to_model(network: NetworkView) -> onnx.ModelProto:
    """The whole network. `UnsupportedError` lists the layers that cannot be said."""
    sets = OperatorSets()
    graph = GraphWriter(network, sets, Names()).graph()
    imports = [helper.make_opsetid(domain, number) for domain, number in sets.versions.items()]
    made = helper.make_model(
        graph, opset_imports=imports, producer_name="tenonrt", producer_version=version("tenonrt-core")
    )
    made.ir_version = helper.find_min_ir_version_for([i for i in imports if i.domain in ("", "ai.onnx.ml")], True)
    return made


class OperatorSets:
    """The version of each domain that the nodes written so far need."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {"": LOWEST_VERSION}

    def need(self, domain: str, number: int) -> None:
        self.versions[domain] = max(self.versions.get(domain, 1), number)


class Names:
    """Names of values, each once in the whole model: nested graphs may not shadow outer ones."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._given: dict[int, str] = {}
        self._kept: list[Tensor] = []  # so that no id is used twice

    def fresh(self, wanted: str) -> str:
        name = wanted
        while name in self._taken or not name:
            self._taken[wanted] = self._taken.get(wanted, 1) + 1
            name = f"{wanted or 'value'}_{self._taken[wanted]}"
        self._taken[name] = 1
        return name

    def give(self, tensor: Tensor, name: str) -> None:
        self._given[id(tensor)] = name
        self._kept.append(tensor)

    def of(self, tensor: Tensor) -> str | None:
        return self._given.get(id(tensor))


class GraphWriter:
    """One graph: of the model, or of a control layer."""

    def __init__(self, network: NetworkView, sets: OperatorSets, names: Names) -> None:
        self._network = network
        self._sets = sets
        self._names = names
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._arrays: dict[int, str] = {}  # constants by identity: tensors that share one are one initializer
        self._held: list[Array] = []

    def graph(self) -> onnx.GraphProto:
        """`UnsupportedError` lists the layers that cannot be said."""
        inner = {id(tensor) for _, tensor in self._network.captures}
        own = [tensor for tensor in self._network.inputs if id(tensor) not in inner]
        for tensor in (*own, *self._network.outputs.values()):
            self._sets.need("", type_version(tensor.type.dtype))
        for tensor in own:
            self._names.give(tensor, self._names.fresh(tensor.name))
        outputs = self._output_names()
        lacking: list[str] = []
        for layer in self._network.layers:
            try:
                self._layer(layer)
            except UnsupportedError as error:
                lacking.append(f"{layer.name!r} ({layer.kind}): {error}")
        if lacking:
            raise UnsupportedError("\n".join(["layers that ONNX cannot say:", *lacking]), [])
        for name, tensor in outputs.items():
            if self._names.of(tensor) != name:
                self.add(helper.make_node("Identity", [self.name(tensor)], [name], name), "", LOWEST_VERSION)
        return helper.make_graph(
            self._nodes,
            self._network.name or "network",
            [value_info(str(self._names.of(tensor)), tensor.type) for tensor in own],
            [value_info(name, tensor.type) for name, tensor in outputs.items()],
            self._initializers,
        )

    def _output_names(self) -> dict[str, Tensor]:
        """The graph's own names for its outputs, except where an input or another graph has them."""
        found: dict[str, Tensor] = {}
        for wanted, tensor in self._network.outputs.items():
            name = self._names.fresh(wanted)
            found[name] = tensor
            if tensor.constant is None and self._names.of(tensor) is None:
                self._names.give(tensor, name)
        return found

    def _layer(self, layer: Layer) -> None:
        nested = [self._nested(graph) for graph in self._network.graphs(layer)]
        captured = next((len(graph.captures) for graph in self._network.graphs(layer)), 0)
        rule_of(layer)(Writer(self, layer, layer.inputs[: len(layer.inputs) - captured], nested))

    def _nested(self, graph: NetworkView) -> onnx.GraphProto:
        """A graph of a control layer, in which outer values have their outer names."""
        for outer, inner in graph.captures:
            self._names.give(inner, self.name(outer))
        return GraphWriter(graph, self._sets, self._names).graph()

    def add(self, node: onnx.NodeProto, domain: str, number: int) -> None:
        self._sets.need(domain, number)
        self._nodes.append(node)

    def fresh(self, wanted: str) -> str:
        return self._names.fresh(wanted)

    def name(self, tensor: Tensor) -> str:
        """The value of a tensor; a constant becomes an initializer when it is first read."""
        known = self._names.of(tensor)
        if known is not None:
            return known
        if tensor.constant is not None:
            return self.constant(tensor.constant, tensor.name)
        name = self._names.fresh(tensor.name)
        self._names.give(tensor, name)
        self._sets.need("", type_version(tensor.type.dtype))
        return name

    def constant(self, values: Array, name: str) -> str:
        """An initializer of these values."""
        if id(values) not in self._arrays:
            self._arrays[id(values)] = self._names.fresh(name)
            self._held.append(values)
            self._sets.need("", type_version(dtype_name(values.dtype)))
            self._initializers.append(numpy_helper.from_array(values, self._arrays[id(values)]))
        return self._arrays[id(values)]


def value_info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    """Sizes that are computed are left open."""
    return helper.make_tensor_value_info(name, code(type.dtype), [_size(size) for size in type.shape])


def _size(size: Any) -> int | str | None:
    if isinstance(size, int):
        return size
    terms = size.terms
    alone = len(terms) == 1 and terms[0][1] == 1 and len(terms[0][0]) == 1 and isinstance(terms[0][0][0], Symbol)
    return str(size) if alone else None
