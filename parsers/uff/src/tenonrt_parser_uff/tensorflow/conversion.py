"""A graph's nodes on their way into a UFF file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tenonrt.contracts import Array, ParseError, SourceNode, UnsupportedError

from tenonrt_parser_uff.order import Lacking
from tenonrt_parser_uff.tensorflow import rules
from tenonrt_parser_uff.tensorflow.graph import FORWARDED, Reference
from tenonrt_parser_uff.tensorflow.refusals import reason
from tenonrt_parser_uff.tensorflow.selection import Selection
from tenonrt_parser_uff.writing import UffFile, element_type

_REMEDY = "Name outputs before these nodes, or put an input in place of one (--input-shape NAME=SHAPE)."
_FORWARDED = FORWARDED | {"PlaceholderWithDefault"}


class Conversion:
    """The file that is being made; `custom` are operations that UFF does not have."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._graph = selection.graph
        self._file = UffFile()
        self._ends = {source.node for source in selection.outputs.values()}
        self._written: set[str] = set()
        self.custom: dict[str, None] = {}

    def run(self) -> None:
        """Every node that the outputs need, producers first; `UnsupportedError` lists those that cannot be written."""
        lacking = Lacking("uff")
        for name, source in self._selection.outputs.items():
            if source.output:
                lacking.add(self._graph.nodes[source.node].op, source.node, f"{name!r} is not its first output")
        for name in self._selection.order:
            node = self._graph.nodes[name]
            try:
                self._convert(node)
            except (ParseError, UnsupportedError) as error:
                lacking.add(node.op, name, str(error))
        lacking.check(_REMEDY)

    def encode(self) -> Iterable[bytes]:
        """The bytes; an output that is another node under a second name is marked by the first one's."""
        return self._file.encode([source.node for source in self._selection.outputs.values()])

    def _convert(self, node: Any) -> None:
        if node.op == "Placeholder" or node.name in self._selection.wanted.shapes:
            dtype, sizes = self._selection.declared(node, dict(self._graph.attributes(node)))
            self._file.node(node.name, "Input", [], {"dtype": element_type(dtype), "shape": sizes})
        elif node.op not in _FORWARDED and node.op != "Const":
            self._operation(node)
        elif node.name in self._ends:
            if node.op == "Const":
                self.constant(node.name)
            else:
                self._file.node(node.name, "Identity", [self.input(node.name, 0)])

    def _operation(self, node: Any) -> None:
        attrs = dict(self._graph.attributes(node))
        source = SourceNode("tensorflow", "", node.op, node.name, 1, attrs, (True,))
        rule = rules.RULES.get(node.op)
        found = None if rule is None else rule(source, Inputs(self, node.name))
        if found is None:
            sentence = reason(node.op)
            if sentence is not None:
                raise ParseError(sentence)
            self.custom[node.op] = None
            found = rules.Operation(f"_{node.op}", range(len(self._selection.inputs(node.name))), attrs)
        inputs = [self.input(node.name, given) if isinstance(given, int) else given for given in found.inputs]
        self._file.node(node.name, found.name, inputs, found.fields, found.orders)

    def input(self, name: str, index: int) -> str:
        """The node that an input of a node is written as; a constant is written when it is first read."""
        source = self.source(name, index)
        if source.output:
            raise ParseError(f"reads output {source.output} of {source.node!r}; nodes of UFF have one output")
        if self._graph.nodes[source.node].op == "Const":
            self.constant(source.node)
        return source.node

    def count(self, name: str) -> int:
        """How many inputs a node has."""
        return len(self._selection.inputs(name))

    def source(self, name: str, index: int) -> Reference:
        """What an input is, past identities."""
        inputs = self._selection.inputs(name)
        if not 0 <= index < len(inputs):
            raise ParseError(f"input {index} is missing; it has {len(inputs)} inputs")
        source = inputs[index]
        while self._forwards(source):
            source = self._selection.inputs(source.node)[source.output]
        return source

    def _forwards(self, source: Reference) -> bool:
        op, given = self._graph.nodes[source.node].op, self._selection.inputs(source.node)
        return op in _FORWARDED and source.output < len(given)

    def value(self, name: str, index: int) -> Array | None:
        """The values of an input that is a constant."""
        node = self._graph.nodes[self.source(name, index).node]
        return self._values(node) if node.op == "Const" else None

    def constant(self, name: str, values: Array | None = None) -> str:
        """Write a constant of the graph, or one of the converter's own, once."""
        if name not in self._written:
            self._written.add(name)
            self._file.constant(name, self._values(self._graph.nodes[name]) if values is None else values)
        return name

    def unused(self, name: str) -> str:
        """A name that no node of the graph has."""
        while name in self._graph.nodes or name in self._written:
            name += "_"
        return name

    def _values(self, node: Any) -> Array:
        values: Any = dict(self._graph.attributes(node)).get("value")
        if not hasattr(values, "dtype"):
            raise ParseError(f"'value' of {node.name!r} holds no tensor")
        found: Array = values
        return found


class Inputs:
    """What a rule may ask about the inputs of its node."""

    def __init__(self, conversion: Conversion, name: str) -> None:
        self._conversion = conversion
        self._name = name

    @property
    def count(self) -> int:
        return self._conversion.count(self._name)

    def value(self, index: int) -> Array | None:
        """The values of an input where they are constant."""
        return self._conversion.value(self._name, index)

    def integers(self, index: int) -> tuple[int, ...] | None:
        """The same as integers."""
        values = self.value(index)
        if values is None or values.dtype.kind not in "iu" or values.size > 1024:
            return None
        return tuple(int(v) for v in values.reshape(-1))

    def added(self, label: str, values: Array) -> str:
        """A constant that the graph does not have."""
        return self._conversion.constant(self._conversion.unused(f"{self._name}/{label}"), values)
