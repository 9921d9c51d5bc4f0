"""One frozen graph on its way into a builder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenonrt import PluginError
from tenonrt.contracts import (
    Dimension,
    GraphBuilder,
    GraphError,
    LayerMapping,
    ParseError,
    SourceNode,
    Tensor,
    TensorType,
    numpy_dtype,
    symbol,
)

from tenonrt_parser_uff.fields import UnknownDtype
from tenonrt_parser_uff.order import Lacking, located, ordered
from tenonrt_parser_uff.tensorflow.branches import Branches
from tenonrt_parser_uff.tensorflow.graph import Graph, Reference, reference, some
from tenonrt_parser_uff.tensorflow.refusals import reason

REMEDY = (
    "Name outputs before these nodes, put an input in place of one (--input-shape NAME=SHAPE), or write a mapping: a "
    "function (builder, node, inputs) -> tensors, registered in the entry point group 'tenonrt.mappings' as "
    "'tensorflow::Operation'."
)
_UNKNOWN_SHAPES_ARE_EMPTY = 24  # writers before this version gave placeholders of unknown shape no dimensions


@dataclass(frozen=True)
class Wanted:
    """What was said about the file: shapes and element types of inputs by name, and outputs."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()


class Reading:
    """The graph of a file, and the tensors made so far."""

    def __init__(self, file: Any, builder: GraphBuilder, wanted: Wanted) -> None:
        self._builder = builder
        self._wanted = wanted
        self._graph = Graph(file)
        self._tensors: dict[str, Sequence[Tensor]] = {}
        flags = {n: False for n, node in self._graph.nodes.items() if _is_flag(node) and n not in wanted.shapes}
        self._branches = Branches(self._graph, flags)

    def run(self) -> None:
        outputs = self._outputs()
        sources = {name: self._branches.source(output) for name, output in outputs.items()}
        for name, source in sources.items():
            self._graph.find(source.node, outputs[name].node)
        order = ordered((source.node for source in sources.values()), self._reads)
        used = self._used(order, sources.values())
        mappings = self._mappings(order)
        for name in order:
            node = self._graph.nodes[name]
            try:
                self._tensors[name] = self._translate(node, mappings.get(name), used[name])
            except (ParseError, GraphError) as error:
                raise located(f"node {name!r} ({node.op})", error) from error
        for name, source in sources.items():
            self._builder.output(self._written(name, self._output(source, "the graph's outputs")), name)

    def _outputs(self) -> dict[str, Reference]:
        """Those named, or the first output of each node that nobody reads."""
        nodes = self._graph.nodes
        for kind, given in (("shape", self._wanted.shapes), ("element type", self._wanted.dtypes)):
            for name in given:
                if name not in nodes:
                    raise ParseError(f"there is no node {name!r} to give a {kind}; {some(nodes)}")
        found = {name: reference(name) for name in self._wanted.outputs} or {
            n: Reference(n) for n in self._graph.ends()
        }
        if not found:
            raise ParseError(f"has no node that nobody reads; name outputs (--outputs NAME): {some(nodes)}")
        for name, output in found.items():
            if output.node not in nodes:
                raise ParseError(f"the output {name!r} is no node of the file; {some(nodes)}")
        return found

    def _inputs(self, name: str) -> list[Reference]:
        """What a node reads once branches are resolved; nothing where an input is put for it."""
        if name in self._wanted.shapes or self._graph.nodes[name].op in ("Const", "Placeholder"):
            return []
        sources = [self._branches.source(given) for given in self._graph.inputs(name)]
        for source in sources:
            self._graph.find(source.node, name)
        return sources

    def _reads(self, name: str) -> Sequence[str]:
        return [given.node for given in self._inputs(name)]

    def _used(self, order: Sequence[str], outputs: Any) -> dict[str, set[int]]:
        used: dict[str, set[int]] = {name: set() for name in order}
        for wanted in (*outputs, *(given for name in order for given in self._inputs(name))):
            used[wanted.node].add(wanted.output)
        return used

    def _mappings(self, order: Sequence[str]) -> dict[str, LayerMapping]:
        """The mapping of every node that needs one; `UnsupportedError` lists the operations without."""
        found: dict[str, LayerMapping] = {}
        lacking = Lacking("tensorflow")
        for name in order:
            operation = self._graph.nodes[name].op
            if operation in ("Const", "Placeholder") or name in self._wanted.shapes:
                continue
            try:
                mapping = self._builder.mapping("tensorflow", "", operation)
            except PluginError as error:
                lacking.add(operation, name, str(error))
                continue
            if mapping is None:
                lacking.add(operation, name, reason(operation))
            else:
                found[name] = mapping
        lacking.check(REMEDY)
        return found

    def _translate(self, node: Any, mapping: LayerMapping | None, used: set[int]) -> Sequence[Tensor]:
        attrs = dict(self._graph.attributes(node))
        if node.op == "Placeholder" or node.name in self._wanted.shapes:
            return [self._input(node, attrs)]
        if mapping is None:
            value = attrs.get("value")
            if not hasattr(value, "dtype"):
                raise ParseError("'value' holds no tensor")
            return [self._builder.constant(value, node.name)]
        inputs = [self._output(given, repr(node.name)) for given in self._inputs(node.name)]
        outputs = tuple(index in used for index in range(max(used, default=0) + 1))
        if len(outputs) > 4096:
            raise ParseError(f"its output {max(used)} is read")
        source = SourceNode("tensorflow", "", node.op, node.name, 1, attrs, outputs)
        with self._builder.origin(node.name):
            return list(mapping(self._builder, source, inputs))

    def _output(self, wanted: Reference, reader: str) -> Tensor:
        results = self._tensors[wanted.node]
        if wanted.output >= len(results):
            operation = self._graph.nodes[wanted.node].op
            raise ParseError(f"{reader} reads output {wanted.output} of {wanted.node!r} ({operation}), which has "
                             f"{len(results)}")  # fmt: skip
        return results[wanted.output]

    def _written(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor, or a copy of it where no layer writes it: an input or a constant that is asked for."""
        if tensor.constant is None and all(tensor is not t for n in self._starts() for t in self._tensors[n]):
            return tensor
        with self._builder.origin(name):
            return self._builder.add("Identity", [tensor])[0]

    def _starts(self) -> list[str]:
        shapes = self._wanted.shapes
        return [n for n in self._tensors if n in shapes or self._graph.nodes[n].op == "Placeholder"]

    def _input(self, node: Any, attrs: dict[str, Any]) -> Tensor:
        sizes = self._wanted.shapes.get(node.name)
        if sizes is None:
            sizes = self._declared(node, attrs)
        placeholder = node.op in ("Placeholder", "PlaceholderWithDefault")
        dtype = self._wanted.dtypes.get(node.name) or (attrs.get("dtype") if placeholder else None) or "float32"
        if isinstance(dtype, UnknownDtype) or not isinstance(dtype, str):
            raise ParseError(f"'dtype' is {dtype!s:.40}, which is no element type")
        try:
            numpy_dtype(dtype)
        except ValueError as error:
            raise ParseError(f"'dtype': {error}") from error
        return self._builder.input(node.name, TensorType(_symbols(node.name, sizes), str(dtype)))

    def _declared(self, node: Any, attrs: dict[str, Any]) -> tuple[int, ...]:
        sizes = attrs.get("shape")
        if sizes == () and self._graph.producer < _UNKNOWN_SHAPES_ARE_EMPTY:
            sizes = None
        if not isinstance(sizes, tuple) or not all(isinstance(size, int) for size in sizes):
            raise ParseError(f"its shape is not in the file; give it: --input-shape {node.name}=1x224x224x3")
        return sizes


def _symbols(name: str, sizes: Sequence[int]) -> tuple[Dimension, ...]:
    """Unknown sizes become symbols, at least 1: the first one is the batch of all inputs."""
    return tuple(
        size if size >= 0 else symbol("N" if not axis else f"{name}_{axis}", 1) for axis, size in enumerate(sizes)
    )


def _is_flag(node: Any) -> bool:
    """A placeholder that says whether the network is trained."""
    return node.op == "Placeholder" and node.attr["dtype"].type == 10 if "dtype" in node.attr else False
