"""What is wanted of a graph: outputs, the nodes that they need, and what stands for its placeholders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenonrt.contracts import ParseError, numpy_dtype

from tenonrt_parser_uff.fields import UnknownDtype
from tenonrt_parser_uff.order import ordered
from tenonrt_parser_uff.tensorflow.branches import Branches
from tenonrt_parser_uff.tensorflow.graph import Graph, Reference, reference, some
from tenonrt_parser_uff.tensorflow.options import TensorFlowOptions, dtypes, names, shapes

_UNKNOWN_SHAPES_ARE_EMPTY = 24  # writers before this version gave placeholders of unknown shape no dimensions
_BOOL = 10


@dataclass(frozen=True)
class Wanted:
    """What was said about the file: shapes and element types of inputs by name, and outputs."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[str] = ()


def wanted(options: TensorFlowOptions) -> Wanted:
    """The options taken apart; `ParseError` for one that cannot be."""
    return Wanted(shapes(options.input_shape), dtypes(options.input_dtype), names(options.outputs))


class Selection:
    """The part of a graph that outputs need, with conditionals resolved and control edges left out."""

    def __init__(self, file: Any, wanted: Wanted) -> None:
        self.graph = Graph(file)
        self.wanted = wanted
        flags = {n: False for n, node in self.graph.nodes.items() if _is_flag(node) and n not in wanted.shapes}
        self._branches = Branches(self.graph, flags)
        self.outputs = self._outputs()
        self.order = ordered((source.node for source in self.outputs.values()), self._reads)

    def inputs(self, name: str) -> list[Reference]:
        """What a node reads once branches are resolved; nothing where an input is put for it."""
        if name in self.wanted.shapes or self.graph.nodes[name].op in ("Const", "Placeholder"):
            return []
        sources = [self._branches.source(given) for given in self.graph.inputs(name)]
        for source in sources:
            self.graph.find(source.node, name)
        return sources

    def used(self) -> dict[str, set[int]]:
        """Which outputs of each node are read."""
        found: dict[str, set[int]] = {name: set() for name in self.order}
        for read in (*self.outputs.values(), *(given for name in self.order for given in self.inputs(name))):
            found[read.node].add(read.output)
        return found

    def declared(self, node: Any, attrs: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
        """Element type and shape, -1 for unknown sizes, of a placeholder or of an input put for another node."""
        sizes = self.wanted.shapes.get(node.name)
        if sizes is None:
            sizes = attrs.get("shape")
            if sizes == () and self.graph.producer < _UNKNOWN_SHAPES_ARE_EMPTY:
                sizes = None
        if not isinstance(sizes, tuple) or not all(isinstance(size, int) for size in sizes):
            raise ParseError(f"its shape is not in the file; give it: --input-shape {node.name}=1x224x224x3")
        # What a node puts out has the type DstT of a Cast and T of most others.
        own = next((attrs[name] for name in ("dtype", "DstT", "T") if attrs.get(name) is not None), "float32")
        dtype = self.wanted.dtypes.get(node.name) or own
        if isinstance(dtype, UnknownDtype) or not isinstance(dtype, str):
            raise ParseError(f"'dtype' is {dtype!s:.40}, which is no element type")
        try:
            numpy_dtype(dtype)
        except ValueError as error:
            raise ParseError(f"'dtype': {error}") from error
        return str(dtype), sizes

    def _reads(self, name: str) -> Sequence[str]:
        return [given.node for given in self.inputs(name)]

    def _outputs(self) -> dict[str, Reference]:
        """Those named, or the first output of each node that nobody reads."""
        nodes = self.graph.nodes
        for kind, given in (("shape", self.wanted.shapes), ("element type", self.wanted.dtypes)):
            for name in given:
                if name not in nodes:
                    raise ParseError(f"there is no node {name!r} to give a {kind}; {some(nodes)}")
        found = {name: reference(name) for name in self.wanted.outputs}
        found = found or {name: Reference(name) for name in self.graph.ends()}
        if not found:
            raise ParseError(f"has no node that nobody reads; name outputs (--outputs NAME): {some(nodes)}")
        for name, output in found.items():
            if output.node not in nodes:
                raise ParseError(f"the output {name!r} is no node of the file; {some(nodes)}")
        sources = {name: self._branches.source(output) for name, output in found.items()}
        for name, source in sources.items():
            self.graph.find(source.node, found[name].node)
        return sources


def _is_flag(node: Any) -> bool:
    """A placeholder that says whether the network is trained."""
    return node.op == "Placeholder" and "dtype" in node.attr and node.attr["dtype"].type == _BOOL
