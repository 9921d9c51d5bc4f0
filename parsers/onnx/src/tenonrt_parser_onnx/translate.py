"""Translate graphs: names to tensors, nodes to layers by their mappings, functions by expanding them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tenonrt import PluginError
from tenonrt.contracts import (
    GraphBuilder,
    GraphError,
    LayerMapping,
    ParseError,
    SourceNode,
    TenonError,
    Tensor,
    TensorType,
    UnsupportedError,
)

from tenonrt_parser_onnx.attributes import read_attribute, read_attributes
from tenonrt_parser_onnx.lacking import Lacking
from tenonrt_parser_onnx.model import Model, function_key, read_versions, standard_domain
from tenonrt_parser_onnx.nested import NestedGraph
from tenonrt_parser_onnx.order import describe, ordered
from tenonrt_parser_onnx.standard import OpSchema, defaults, function_schema, standard_function
from tenonrt_parser_onnx.tensors import read_tensor
from tenonrt_parser_onnx.text import text
from tenonrt_parser_onnx.values import declared_type, read_type

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto

# The format by whose name distributions offer mappings for what no native layer does: asked last.
PACK = "onnx_reference"
MAX_VERSION = 1000  # of domains with mappings by version; nobody has had a hundred


class MappingError(PluginError):
    """A mapping raised what none may: a mistake in the plugin, whatever the model."""


def located(where: str, error: ParseError | GraphError) -> ParseError:
    """The same error, saying where."""
    if isinstance(error, UnsupportedError):
        return UnsupportedError(f"{where}: {error}", error.operators, error.provided)
    return ParseError(f"{where}: {error}")


class Scope:
    """The names of one graph; what it lacks is looked up in the graph around it."""

    def __init__(self, builder: GraphBuilder, model: Model, parent: Scope | None = None) -> None:
        self.builder = builder
        self.tensors: dict[str, Tensor | None] = {}
        self.initializers: dict[str, TensorProto] = {}
        self.made: set[int] = set()  # ids of the tensors that nodes of this graph made, which `tensors` keeps alive
        self.declared: dict[str, ValueInfoProto] = {}
        self._model = model
        self._parent = parent

    def declare(self, graph: GraphProto) -> None:
        """Take note of the types that the graph gives for what its nodes make."""
        self.declared = {value.name: value for value in (*graph.value_info, *graph.output)}

    @property
    def depth(self) -> int:
        """How many graphs are around this one."""
        return 0 if self._parent is None else 1 + self._parent.depth

    def has(self, name: str) -> bool:
        found = name in self.tensors or name in self.initializers
        return found or (self._parent is not None and self._parent.has(name))

    def find(self, name: str) -> Tensor | None:
        """The tensor; None is an input that a function's caller left out. Initializers are decoded when needed."""
        if name in self.tensors:
            return self.tensors[name]
        if name in self.initializers:
            self.tensors[name] = self._constant(name)
            return self.tensors[name]
        if self._parent is None:
            raise ParseError(f"{name!r} is not defined")
        return self._parent.find(name)

    def _constant(self, name: str) -> Tensor:
        try:
            return self.builder.constant(read_tensor(self.initializers[name], self._model.files), name)
        except (ParseError, GraphError) as error:
            raise located(f"initializer {name!r}", error) from error


@dataclass(frozen=True)
class Frame:
    """Where nodes stand: the operator sets in force, and the function call that is being expanded."""

    versions: Mapping[str, int]
    prefix: str = ""
    arguments: Mapping[str, Any] | None = None


@dataclass
class Translator:
    """Fills builders from the graphs of one model."""

    model: Model
    mappings: dict[tuple[str, str, int], LayerMapping | None] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def graph(
        self, graph: GraphProto, scope: Scope, frame: Frame, nested: bool, types: Sequence[TensorType] = ()
    ) -> list[Tensor]:
        """Translate a whole graph; ``types`` stand in for those its inputs do not declare. Returns the outputs."""
        self._initializers(graph, scope)
        self._inputs(graph, scope, types)
        scope.declare(graph)
        self._nodes(graph.node, scope, frame)
        return self._outputs(graph, scope, nested)

    def _initializers(self, graph: GraphProto, scope: Scope) -> None:
        if len(graph.sparse_initializer):
            name = graph.sparse_initializer[0].values.name
            raise ParseError(f"initializer {name!r} is sparse; only dense tensors are read")
        for tensor in graph.initializer:
            name = text(tensor.name, "an initializer's name")
            if not name or name in scope.initializers:
                raise ParseError(f"initializer {name!r} is given twice" if name else "an initializer has no name")
            scope.initializers[name] = tensor

    def _inputs(self, graph: GraphProto, scope: Scope, types: Sequence[TensorType]) -> None:
        for index, value in enumerate(graph.input):
            name = text(value.name, f"the name of input {index}")
            if not name or name in scope.tensors:
                raise ParseError(f"input {name!r} is given twice" if name else f"input {index} has no name")
            if name in scope.initializers:  # IR versions before 4 list initializers as inputs too
                continue
            try:
                given = read_type(value, types[index] if index < len(types) else None)
                scope.tensors[name] = scope.builder.input(name, given)
            except (ParseError, GraphError) as error:
                raise located(f"input {name!r}", error) from error

    def _nodes(self, nodes: Sequence[NodeProto], scope: Scope, frame: Frame) -> None:
        defined = {*scope.tensors, *scope.initializers}
        for index in ordered(nodes, defined, scope.has):
            node = nodes[index]
            try:
                self._node(node, index, scope, frame)
            except (ParseError, GraphError) as error:
                raise located(describe(node, index), error) from error

    def _node(self, node: NodeProto, index: int, scope: Scope, frame: Frame) -> None:
        inputs = [scope.find(text(name, "an input's name")) if name else None for name in node.input]
        attributes = read_attributes(
            node, frame.arguments, self.model.files, lambda graph: self._nested(graph, scope, frame)
        )
        domain = standard_domain(text(node.domain, "the domain"))
        kind = text(node.op_type, "the operator")
        name = self._name(node, index, frame)
        results = self._results(node, (domain, kind), name, attributes, inputs, scope, frame)
        for position, output in enumerate(node.output):
            if output and position >= len(results):
                raise ParseError(f"has {len(results)} outputs; the model uses output {position}, {output!r}")
            if output:
                scope.tensors[output] = result = results[position]
                if result is None:
                    raise ParseError(f"{node.op_type!r} does not define its output {position}, {output!r}")
                if not any(result is tensor for tensor in inputs):
                    scope.made.add(id(result))

    def _results(
        self,
        node: NodeProto,
        operator: tuple[str, str],
        name: str,
        attributes: dict[str, Any],
        inputs: Sequence[Tensor | None],
        scope: Scope,
        frame: Frame,
    ) -> Sequence[Tensor | None]:
        """The outputs of a node, by the first of: a mapping, a function of the model, onnx's own definition, a pack."""
        domain, kind = operator
        version = self._version(domain, frame)
        source = SourceNode(
            "onnx", domain, kind, name, version, attributes, tuple(bool(output) for output in node.output),
            tuple(declared_type(scope.declared.get(output)) for output in node.output),
        )  # fmt: skip
        inner = replace(frame, prefix=f"{name}/", arguments=attributes)
        mapping = self.mapping(scope.builder, domain, kind, version)
        if mapping is not None:
            return self._or_pack(lambda: self._mapped(mapping, source, inputs, scope.builder), source, inputs, scope)
        function = self.model.functions.get(function_key(node))
        if function is not None:
            versions = {**frame.versions, **read_versions(function.opset_import)}
            return self._call(function, inputs, Scope(scope.builder, self.model), replace(inner, versions=versions))
        schema = function_schema(domain, kind, version)
        if schema is not None:
            return self._or_pack(
                lambda: self._standard(schema, node, source, inputs, scope, inner), source, inputs, scope
            )
        pack = scope.builder.mapping(PACK, domain, kind)
        if pack is None:
            lacking = Lacking()
            lacking.add(operator, version, describe(node, 0))
            raise lacking.error()
        return self._mapped(pack, source, inputs, scope.builder)

    def _standard(
        self,
        schema: OpSchema,
        node: NodeProto,
        source: SourceNode,
        inputs: Sequence[Tensor | None],
        scope: Scope,
        frame: Frame,
    ) -> Sequence[Tensor | None]:
        """Expand what onnx defines as a function."""
        body = standard_function(schema, node, source.attrs, source.version, inputs)
        arguments = {**defaults(schema), **source.attrs}
        versions = {**frame.versions, **read_versions(body.opset_import)}
        # Graphs among the attributes are part of the body now, and may read what is around the node.
        inner = Scope(scope.builder, self.model, scope)
        return self._call(body, inputs, inner, replace(frame, versions=versions, arguments=arguments))

    def _or_pack(
        self,
        attempt: Callable[[], Sequence[Tensor | None]],
        source: SourceNode,
        inputs: Sequence[Tensor | None],
        scope: Scope,
    ) -> Sequence[Tensor | None]:
        """What native layers refuse for its inputs or attributes, the pack may take. Layers begun are dead."""
        try:
            return attempt()
        except (ParseError, GraphError) as error:
            pack = scope.builder.mapping(PACK, source.domain, source.type)
            if pack is None:
                raise
            try:
                return self._mapped(pack, source, inputs, scope.builder)
            except (ParseError, GraphError):
                raise error from None

    def _mapped(
        self, mapping: LayerMapping, source: SourceNode, inputs: Sequence[Tensor | None], builder: GraphBuilder
    ) -> list[Tensor]:
        try:
            with builder.origin(source.name):
                return list(mapping(builder, source, inputs))
        except TenonError:
            raise
        except Exception as error:
            kind = f"{source.domain}:{source.type}".removeprefix(":")
            raise MappingError(
                f"node {source.name!r} ({kind}): its mapping, {mapping.__module__}.{mapping.__qualname__}, raised "
                f"{error!r}; mend it there, or raise ParseError for what a model may not ask (--traceback shows where)"
            ) from error

    def mapping(self, builder: GraphBuilder, domain: str, kind: str, version: int) -> LayerMapping | None:
        """The installed mapping of an operator; asked for once.

        In domains of others a mapping may be for some versions: ``acme:Swish@3`` is asked from version 3 on, up to the
        next such one, and ``acme:Swish`` where there is none. One of a standard operator looks at its node's version.
        """
        key = domain, kind, version
        if key not in self.mappings:
            since = range(min(version, MAX_VERSION), 0, -1) if domain else ()
            versioned = (builder.mapping("onnx", domain, f"{kind}@{v}") for v in since)
            found = next((mapping for mapping in versioned if mapping is not None), None)
            self.mappings[key] = found or builder.mapping("onnx", domain, kind)
        return self.mappings[key]

    def _version(self, domain: str, frame: Frame) -> int:
        version = frame.versions.get(domain, self.model.versions.get(domain))
        if version is None and not domain:
            raise ParseError("the model imports no version of the standard operators (opset_import, field 8)")
        return version or 1

    def _name(self, node: NodeProto, index: int, frame: Frame) -> str:
        """The node's name, or its first output's where it has none, made unique."""
        own = text(node.name, "the name") or next((o for o in node.output if o), f"{node.op_type}_{index}")
        name, count = frame.prefix + own, 1
        while name in self.names:
            count += 1
            name = f"{frame.prefix}{own}_{index}" if count == 2 else f"{frame.prefix}{own}_{index}_{count}"
        self.names.add(name)
        return name

    def _nested(self, graph: GraphProto, scope: Scope, frame: Frame) -> NestedGraph:
        name = text(graph.name, "a graph's name") or "graph"
        named: set[str] = set()  # by the translation before, which this one replaces

        def translate(builder: GraphBuilder, types: Sequence[TensorType]) -> list[Tensor]:
            self.names -= named
            others = set(self.names)
            try:
                return self.graph(graph, Scope(builder, self.model, scope), frame, True, types)
            except ParseError as error:
                raise located(f"graph {name!r}", error) from error
            finally:
                named.update(self.names - others)

        def translate_inline(builder: GraphBuilder) -> list[Tensor]:
            inner = Scope(builder, self.model, scope)
            try:
                if graph.input:
                    raise ParseError(f"has {len(graph.input)} inputs; a branch has none")
                self._initializers(graph, inner)
                inner.declare(graph)
                self._nodes(graph.node, inner, frame)
                return [self._found(inner, text(value.name, "an output's name")) for value in graph.output]
            except ParseError as error:
                raise located(f"graph {name!r}", error) from error

        declared = tuple(value.type.tensor_type.HasField("shape") for value in graph.input)
        return NestedGraph(name, scope.depth + 1, declared, translate, translate_inline)

    def _found(self, scope: Scope, name: str) -> Tensor:
        tensor = scope.find(name) if scope.has(name) else None
        if tensor is None:
            raise ParseError(f"output {name!r} is written by no node")
        return tensor

    def _outputs(self, graph: GraphProto, scope: Scope, nested: bool) -> list[Tensor]:
        """Mark the outputs. One that no layer of this graph made (an input, a constant, a capture) is copied."""
        seen: set[str] = set()
        marked: list[Tensor] = []
        for value in graph.output:
            name = text(value.name, "an output's name")
            if name in seen and not nested:
                raise ParseError(f"output {name!r} is given twice")
            tensor = self._found(scope, name)
            try:
                if tensor.constant is not None or id(tensor) not in scope.made or name in seen:
                    (tensor,) = scope.builder.add("Identity", [tensor], {}, name=self._copy_name(name))
                scope.builder.output(tensor, name if name not in seen else None)
            except GraphError as error:
                raise located(f"output {name!r}", error) from error
            seen.add(name)
            marked.append(tensor)
        return marked

    def _copy_name(self, name: str) -> str:
        copy = f"{name}/output"
        while copy in self.names:
            copy += "_"
        self.names.add(copy)
        return copy

    def _call(
        self, function: FunctionProto, inputs: Sequence[Tensor | None], body: Scope, frame: Frame
    ) -> list[Tensor | None]:
        """Expand a function in place; the frame's arguments are what the call gives. None: an undefined output."""
        if len(inputs) > len(function.input):
            raise ParseError(f"has {len(inputs)} inputs, function {function.name!r} takes {len(function.input)}")
        body.tensors.update(dict.fromkeys(function.input))
        body.tensors.update(zip(function.input, inputs, strict=False))
        arguments = {**self._defaults(function), **(frame.arguments or {})}
        try:
            self._nodes(function.node, body, replace(frame, arguments=arguments))
        except ParseError as error:
            raise located(f"function {function.name!r}", error) from error
        return [body.find(output) if body.has(output) else None for output in function.output]

    def _defaults(self, function: FunctionProto) -> dict[str, Any]:
        def refuse(graph: GraphProto) -> NestedGraph:
            raise ParseError("is a graph, which cannot be a default")

        return {a.name: read_attribute(a, self.model.files, refuse) for a in function.attribute_proto}
