"""One frozen graph on its way into a builder."""

from __future__ import annotations

from collections.abc import Sequence
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
    symbol,
)

from tenonrt_parser_uff.order import Lacking, located
from tenonrt_parser_uff.tensorflow.graph import Reference
from tenonrt_parser_uff.tensorflow.refusals import reason
from tenonrt_parser_uff.tensorflow.selection import Selection

REMEDY = (
    "Name outputs before these nodes, put an input in place of one (--input-shape NAME=SHAPE), or write a mapping: a "
    "function (builder, node, inputs) -> tensors, registered in the entry point group 'tenonrt.mappings' as "
    "'tensorflow::Operation'."
)


class Reading:
    """The graph of a file, and the tensors made so far."""

    def __init__(self, selection: Selection, builder: GraphBuilder) -> None:
        self._builder = builder
        self._selection = selection
        self._wanted = selection.wanted
        self._graph = selection.graph
        self._tensors: dict[str, Sequence[Tensor]] = {}

    def run(self) -> None:
        order = self._selection.order
        used = self._selection.used()
        mappings = self._mappings(order)
        for name in order:
            node = self._graph.nodes[name]
            try:
                self._tensors[name] = self._translate(node, mappings.get(name), used[name])
            except (ParseError, GraphError) as error:
                raise located(f"node {name!r} ({node.op})", error) from error
        for name, source in self._selection.outputs.items():
            self._builder.output(self._written(name, self._output(source, "the graph's outputs")), name)

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
            value: Any = attrs.get("value")
            if not hasattr(value, "dtype"):
                raise ParseError("'value' holds no tensor")
            return [self._builder.constant(value, node.name)]
        inputs = [self._output(given, repr(node.name)) for given in self._selection.inputs(node.name)]
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
        dtype, sizes = self._selection.declared(node, attrs)
        return self._builder.input(node.name, TensorType(_symbols(node.name, sizes), dtype))


def _symbols(name: str, sizes: Sequence[int]) -> tuple[Dimension, ...]:
    """Unknown sizes become symbols, at least 1: the first one is the batch of all inputs."""
    return tuple(
        size if size >= 0 else symbol("N" if not axis else f"{name}_{axis}", 1) for axis, size in enumerate(sizes)
    )
