"""The nodes of a GraphDef and the edges between them, without what an inference does not need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tenonrt.contracts import ParseError

from tenonrt_parser_uff.tensorflow.values import attribute

# What nobody reads for its value: checks, summaries, savers and initializers.
EFFECTS = frozenset(
    "NoOp Assert Abort PrintV2 SaveV2 Save SaveSlices ShardedFilename MergeV2Checkpoints Assign AssignVariableOp "
    "Timestamp ScalarSummary HistogramSummary ImageSummary MergeSummary WriteFile ControlTrigger".split()
)
FORWARDED = frozenset(
    "Identity IdentityN StopGradient PreventGradient Snapshot CheckNumerics DebugGradientIdentity EnsureShape".split()
)


class Reference(NamedTuple):
    """One output of a node."""

    node: str
    output: int = 0

    def __str__(self) -> str:
        return f"{self.node}:{self.output}" if self.output else self.node


def reference(text: str) -> Reference:
    """``name`` or ``name:1``."""
    name, colon, number = text.rpartition(":")
    if colon and name and number.isdecimal() and len(number) < 10:
        return Reference(name, int(number))
    return Reference(text)


class Graph:
    """A file's nodes by name, in the order of the file."""

    def __init__(self, file: Any) -> None:
        self.nodes: dict[str, Any] = {}
        self.producer = file.versions.producer or file.version
        for node in file.node:
            if not node.name or node.name in self.nodes:
                raise ParseError(f"two nodes are named {node.name!r}" if node.name else "a node has no name")
            self.nodes[node.name] = node
        if not self.nodes:
            raise ParseError("has no nodes; is it a frozen GraphDef?")

    def inputs(self, name: str) -> list[Reference]:
        """What a node reads; its control inputs, ``^name``, only order effects and are left out."""
        return [reference(text) for text in self.nodes[name].input if not text.startswith("^")]

    def controls(self, name: str) -> list[str]:
        return [text[1:] for text in self.nodes[name].input if text.startswith("^")]

    def find(self, name: str, reader: str) -> Any:
        """A node that another one reads; `ParseError` names both where it is missing."""
        if name not in self.nodes:
            raise ParseError(f"node {reader!r} ({self.nodes[reader].op}) reads {name!r}, which is not in the file")
        return self.nodes[name]

    def attributes(self, node: Any) -> Iterator[tuple[str, Any]]:
        """Names and plain values; those that begin with an underscore are notes of the writer's own."""
        for name, value in node.attr.items():
            if name.startswith("_"):
                continue
            try:
                yield name, attribute(value)
            except ParseError as error:
                raise ParseError(f"attribute {name!r}: {error}") from error

    def ends(self) -> list[str]:
        """Nodes that nobody reads and that compute something."""
        read = {
            (text[1:] if text.startswith("^") else reference(text).node)
            for node in self.nodes.values()
            for text in node.input
            if node.op not in EFFECTS
        }
        starts = {"Const", "Placeholder", "PlaceholderWithDefault"}
        return [n for n, node in self.nodes.items() if n not in read and node.op not in EFFECTS | starts]


def some(nodes: Mapping[str, Any]) -> str:
    """The last names, which are those near the outputs."""
    names = list(nodes)
    more = f"{len(names) - 20} others and " if len(names) > 20 else ""
    return f"it has {more}{', '.join(map(repr, names[-20:]))}"
