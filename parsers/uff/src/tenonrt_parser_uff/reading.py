"""One UFF file on its way into a builder."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from tenonrt import PluginError
from tenonrt.contracts import Array, GraphBuilder, GraphError, LayerMapping, ParseError, SourceNode, Tensor, numpy_dtype

from tenonrt_parser_uff.consumers import Consumers
from tenonrt_parser_uff.factory import PluginFactory, made_by
from tenonrt_parser_uff.fields import References, UnknownDtype, read_field
from tenonrt_parser_uff.inputs import Registration, declare
from tenonrt_parser_uff.order import Lacking, located, ordered

TENSORFLOW = "tensorflow_extension"  # the descriptor that the TensorFlow converter always writes
REMEDY = (
    "Install the distribution that maps them, or write one: a function (builder, node, inputs) -> tensors, registered "
    "in the entry point group 'tenonrt.mappings', for _Name as 'uff:custom:Name'; or set a plugin factory."
)
MAX_RANK = 64  # of an array
_READ_HERE = frozenset({"Input", "Const", "MarkOutput"})


class Settings(Protocol):
    """What was said about the file to its parser."""

    literal: bool
    factory: PluginFactory | None
    registered: dict[str, Registration]
    wanted: list[str]


class Reading:
    """The graph of a file, its references, and the tensors made so far."""

    def __init__(self, file: Any, builder: GraphBuilder, settings: Settings) -> None:
        self._builder = builder
        self._settings = settings
        self._references = References(file.referenced_data)
        self._nodes = _nodes(file)
        self._tensors: dict[str, Tensor] = {}
        converted = any(descriptor.id == TENSORFLOW for descriptor in file.descriptors)
        self._mend = converted and not settings.literal

    def run(self) -> None:
        outputs = self._outputs()
        order = ordered(outputs, self._reads)
        mappings = self._mappings(order)
        for name in order:
            try:
                self._tensors[name] = self._translate(self._nodes[name], mappings.get(name))
            except (ParseError, GraphError) as error:
                raise located(f"node {name!r} ({self._nodes[name].operation})", error) from error
        for name in self._settings.registered:
            if name not in self._nodes:
                raise ParseError(f"there is no node {name!r} to register as an input")
        for name in outputs:
            self._builder.output(self._tensors[name], name)

    def _reads(self, name: str) -> Sequence[str]:
        node = self._nodes[name]
        if name in self._settings.registered or node.operation in ("Input", "Const"):
            return ()
        for needed in node.inputs:
            if needed not in self._nodes:
                raise ParseError(f"node {name!r} ({node.operation}) reads {needed!r}, which is not in the file")
        return list(node.inputs)

    def _outputs(self) -> list[str]:
        """Those registered, those marked, or what no node reads."""
        wanted = list(dict.fromkeys(self._settings.wanted))
        if not wanted:
            marks = [node for node in self._nodes.values() if node.operation == "MarkOutput"]
            wanted = list(dict.fromkeys(name for mark in marks for name in mark.inputs))
        if not wanted:
            read = {name for node in self._nodes.values() for name in node.inputs}
            wanted = [n for n, node in self._nodes.items() if n not in read and node.operation not in _READ_HERE]
        if not wanted:
            raise ParseError("has no output: no MarkOutput node, and none was registered")
        for name in wanted:
            if name not in self._nodes or self._nodes[name].operation == "MarkOutput":
                raise ParseError(f"the output {name!r} is no node of the file; {_some(self._nodes)}")
        return wanted

    def _mappings(self, order: Sequence[str]) -> dict[str, LayerMapping]:
        """The mapping of every node that needs one; `UnsupportedError` lists the operations without."""
        found: dict[str, LayerMapping] = {}
        known: dict[str, LayerMapping | None] = {}
        lacking = Lacking("uff")
        for name in order:
            operation = self._nodes[name].operation
            if operation in ("Input", "Const") or name in self._settings.registered or self._by_factory(name):
                continue
            try:
                if operation not in known:
                    known[operation] = find_mapping(self._builder, operation)
            except PluginError as error:
                lacking.add(operation, name, str(error))
                continue
            mapping = known[operation]
            if mapping is None:
                lacking.add(operation, name)
            else:
                found[name] = mapping
        lacking.check(REMEDY)
        return found

    def _by_factory(self, name: str) -> bool:
        factory = self._settings.factory
        return factory is not None and self._nodes[name].operation.startswith("_") and bool(factory.is_plugin(name))

    def _translate(self, node: Any, mapping: LayerMapping | None) -> Tensor:
        attrs = self._attributes(node)
        if node.operation == "Input" or node.id in self._settings.registered:
            return self._input(node, attrs)
        if node.operation == "Const":
            return self._builder.constant(_constant(attrs), node.id)
        inputs = [self._tensors[name] for name in node.inputs]
        with self._builder.origin(node.id):
            if mapping is None:
                assert self._settings.factory is not None, "nodes without a mapping are refused or a factory's"
                results = made_by(self._settings.factory, self._builder, node.id, attrs, inputs)
            else:
                domain, operation = _domain(node.operation)
                source = SourceNode("uff", domain, operation, node.id, 1, attrs, (True,))
                results = mapping(self._builder, source, inputs)
        if not results:
            raise ParseError("has no result")
        return results[0]

    def _attributes(self, node: Any) -> dict[str, Any]:
        attrs = {}
        for name, value in node.fields.items():
            try:
                attrs[name] = read_field(value, self._references)
            except ParseError as error:
                raise located(f"field {name!r}", error) from error
        if node.operation == "LRN" and self._mend:
            mend_lrn(attrs)
        if node.operation == "Unary" and attrs.get("func") == "pow" and self._settings.literal:
            raise ParseError("'func' is 'pow', which no Unary operation is; read literally, this is an error")
        return attrs

    def _input(self, node: Any, attrs: dict[str, Any]) -> Tensor:
        given = self._settings.registered.get(node.id)
        is_input = node.operation == "Input"
        dtype = (attrs.get("dtype") if is_input else None) or "float32"
        shape = attrs.get("shape") if is_input else None
        if isinstance(dtype, UnknownDtype) or not isinstance(dtype, str):
            raise ParseError(f"'dtype' is {dtype!s:.40}, which is no element type")
        if shape is not None and not (isinstance(shape, tuple) and all(isinstance(d, int) for d in shape)):
            raise ParseError("'shape' must be a list of integers")
        try:
            numpy_dtype(dtype)
        except ValueError as error:
            raise ParseError(f"'dtype': {error}") from error
        return declare(
            self._builder, node.id, str(dtype), shape, given, Consumers(self._nodes, self._references).of(node.id)
        )


def find_mapping(builder: GraphBuilder, operation: str) -> LayerMapping | None:
    """Of a custom operation, that of its own, or TensorFlow's: converters pass on what they do not know."""
    domain, name = _domain(operation)
    found = builder.mapping("uff", domain, name)
    return builder.mapping("tensorflow", "", name) if found is None and domain else found


def _domain(operation: str) -> tuple[str, str]:
    """``_Name`` is "custom" and "Name"; the operations of the format have no domain."""
    return ("custom", operation[1:]) if operation.startswith("_") else ("", operation)


def mend_lrn(attrs: dict[str, Any]) -> None:
    """TensorFlow's radius and its alpha, which is not divided by the window, as UFF means them."""
    radius, alpha = attrs.get("window_size"), attrs.get("alpha")
    if isinstance(radius, int) and isinstance(alpha, float):
        window = 2 * radius + 1
        attrs.update(window_size=window, alpha=alpha * window)


def _constant(attrs: dict[str, Any]) -> Array:
    """The values of a Const node, as a view of the file's bytes."""
    values, dtype, shape = attrs.get("values"), attrs.get("dtype"), attrs.get("shape")
    if isinstance(values, str):
        return np.array(values, object)
    if not isinstance(values, bytes):
        raise ParseError("'values' holds no bytes; is the reference to the weights missing?")
    if not isinstance(dtype, str) or isinstance(dtype, UnknownDtype):
        raise ParseError(f"'dtype' is {dtype!s:.40}, which is no element type")
    try:
        element = numpy_dtype(dtype).newbyteorder("<")
    except ValueError as error:
        raise ParseError(f"'dtype': {error}") from error
    if shape is None:
        shape = (len(values) // element.itemsize,)
    if not isinstance(shape, tuple) or not all(isinstance(d, int) and d >= 0 for d in shape):
        raise ParseError(f"'shape' is {shape!s:.60}, expected a list of sizes")
    if len(shape) > MAX_RANK or prod(shape) * element.itemsize != len(values):
        raise ParseError(f"'values' has {len(values)} bytes, shape {list(shape)[:8]} of {dtype} does not")
    return np.frombuffer(values, element).reshape(shape)


def _nodes(file: Any) -> dict[str, Any]:
    """The nodes of the graph "main", or of the only one."""
    graphs = {graph.id: graph for graph in file.graphs}
    graph = graphs.get("main", file.graphs[0] if len(file.graphs) == 1 else None)
    if graph is None:
        raise ParseError(f"has {len(file.graphs)} graphs and none with the id 'main'")
    nodes: dict[str, Any] = {}
    for node in graph.nodes:
        if node.id in nodes:
            raise ParseError(f"two nodes have the id {node.id!r}")
        nodes[node.id] = node
    return nodes


def _some(nodes: dict[str, Any]) -> str:
    names = list(nodes)
    return f"it has {', '.join(map(repr, names[:20]))}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
