"""The order of nodes: topological, the model's own where that already is one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tenonrt.contracts import ParseError

from tenonrt_parser_onnx.text import text

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def describe(node: NodeProto, index: int) -> str:
    """How messages name a node: ``node 'conv1' (Conv, #3)``."""
    domain = f"{node.domain!s}:" if node.domain else ""
    return f"node {node.name!r} ({domain}{node.op_type!s}, #{index})"


def nested_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def reads(node: NodeProto) -> Iterator[str]:
    """Every name that a node needs: its inputs, and what its nested graphs take from outside."""
    yield from (name for name in node.input if name)
    for graph in nested_graphs(node):
        yield from captures(graph)


def captures(graph: GraphProto) -> set[str]:
    """Names that a nested graph reads and does not define."""
    own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    own.update(name for node in graph.node for name in node.output)
    wanted = {v.name for v in graph.output}
    for node in graph.node:
        wanted.update(reads(node))
    return wanted - own


def producers(nodes: Sequence[NodeProto], defined: set[str]) -> dict[str, int]:
    """Which node writes which name; `ParseError` when a name has two writers."""
    result: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for output in node.output:
            name = text(output, f"{describe(node, index)}: an output's name")
            if not name:
                continue
            if name in defined or name in result:
                other = describe(nodes[result[name]], result[name]) if name in result else "an input or initializer"
                raise ParseError(f"{describe(node, index)} writes {name!r}, which {other} defines already")
            result[name] = index
    return result


def ordered(nodes: Sequence[NodeProto], defined: set[str], outside: Callable[[str], bool]) -> list[int]:
    """Indices of nodes so that each comes after those it reads from.

    ``defined`` are the graph's inputs and initializers, ``outside`` says whether an enclosing graph has a name.
    """
    writer = producers(nodes, defined)
    needs: list[set[int]] = []
    for index, node in enumerate(nodes):
        needed = set()
        for name in reads(node):
            if name in writer:
                needed.add(writer[name])
            elif name not in defined and not outside(name):
                raise ParseError(f"{describe(node, index)} reads {name!r}, which nothing defines")
        needs.append(needed)
    if all(not needed or max(needed) < index for index, needed in enumerate(needs)):
        return list(range(len(nodes)))
    return _sort(nodes, needs)


def _sort(nodes: Sequence[NodeProto], needs: Sequence[set[int]]) -> list[int]:
    waiting = [len(needed) for needed in needs]
    readers: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for other in needed:
            readers[other].append(index)
    ready = [index for index, count in enumerate(waiting) if not count]
    result: list[int] = []
    while ready:
        result.append(heapq.heappop(ready))
        for reader in readers[result[-1]]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(result) < len(nodes):
        raise ParseError(f"the graph has a cycle: {_cycle(nodes, needs, set(result))}")
    return result


def _cycle(nodes: Sequence[NodeProto], needs: Sequence[set[int]], done: set[int]) -> str:
    """A cycle among the nodes that could not be ordered, in the direction of the data."""
    at = next(index for index in range(len(nodes)) if index not in done)
    path: dict[int, int] = {}
    while at not in path:
        path[at] = len(path)
        at = min(needs[at] - done)
    cycle = [index for index in path if path[index] >= path[at]][::-1]
    shown = [describe(nodes[index], index) for index in [*cycle[:10], cycle[0]]]
    return " -> ".join(shown if len(cycle) <= 10 else [*shown[:-1], "...", shown[-1]])
