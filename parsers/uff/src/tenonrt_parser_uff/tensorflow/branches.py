"""Conditionals of TensorFlow 1 whose condition the file knows: what a Merge takes, and what is never computed.

A Switch sends its data to output 1 when the condition holds, else to output 0; what follows the other one does not
run, and a Merge passes on the input that did. Graphs frozen with a flag for training are full of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tenonrt.contracts import ParseError

from tenonrt_parser_uff.tensorflow.graph import FORWARDED, Graph, Reference
from tenonrt_parser_uff.tensorflow.values import attribute

SWITCHES, MERGES = frozenset({"Switch", "RefSwitch"}), frozenset({"Merge", "RefMerge"})


class Branches:
    """Answers for references; ``assumed`` are conditions whose nodes hold no value."""

    def __init__(self, graph: Graph, assumed: Mapping[str, bool]) -> None:
        self._graph = graph
        self._assumed = assumed
        self._live: dict[Reference, bool] = {}
        self._any = any(node.op in SWITCHES for node in graph.nodes.values())

    def source(self, wanted: Reference) -> Reference:
        """What a reference stands for, past switches and merges."""
        for _ in range(len(self._graph.nodes) + 1):
            node = self._graph.nodes.get(wanted.node)
            if node is None or node.op not in SWITCHES | MERGES or not self._any:
                return wanted
            inputs = self._graph.inputs(wanted.node)
            if node.op in SWITCHES:
                self._condition(wanted.node)
                wanted = inputs[0]
            elif wanted.output == 0:
                wanted = self._chosen(wanted.node, inputs)
            else:
                raise ParseError(f"the index of node {wanted.node!r} (Merge) is read, which is not supported")
        raise ParseError(f"the graph has a cycle through node {wanted.node!r}")

    def _chosen(self, name: str, inputs: list[Reference]) -> Reference:
        live = [given for given in inputs if self._is_live(given)]
        if len(live) != 1:
            raise ParseError(
                f"node {name!r} (Merge) has {len(live)} inputs that are computed; loops and conditions that are not "
                f"known when the file is read are not supported"
            )
        return live[0]

    def _is_live(self, wanted: Reference) -> bool:
        """Whether a reference is computed, without recursion: graphs are deeper than Python's stack."""
        stack = [(wanted, iter(self._needed(wanted)))]
        path = {wanted}
        while stack:
            current, rest = stack[-1]
            following = next((n for n in rest if n not in self._live), None)
            if following is None:
                stack.pop()
                path.discard(current)
                self._live[current] = self._decide(current)
            elif following in path:
                raise ParseError(f"the graph has a cycle through node {following.node!r}; loops are not supported")
            else:
                stack.append((following, iter(self._needed(following))))
                path.add(following)
        return self._live[wanted]

    def _needed(self, wanted: Reference) -> Iterator[Reference]:
        if wanted.node in self._graph.nodes:
            node = self._graph.nodes[wanted.node]
            yield from self._graph.inputs(wanted.node)[: 1 if node.op in SWITCHES else None]
            yield from (Reference(name) for name in self._graph.controls(wanted.node))

    def _decide(self, wanted: Reference) -> bool:
        node = self._graph.nodes.get(wanted.node)
        if node is None:
            return True  # said where it is read
        needed = list(self._needed(wanted))
        if node.op in MERGES:
            return any(self._live[n] for n in self._graph.inputs(wanted.node))
        if node.op in SWITCHES and self._condition(wanted.node) != (wanted.output == 1):
            return False
        return all(self._live[n] for n in needed)

    def _condition(self, switch: str) -> bool:
        inputs = self._graph.inputs(switch)
        if len(inputs) != 2:
            raise ParseError(f"node {switch!r} (Switch) has {len(inputs)} inputs, expected 2")
        name, inverted = inputs[1].node, False
        for _ in range(len(self._graph.nodes)):
            node = self._graph.find(name, switch)
            if node.op not in FORWARDED | {"LogicalNot", "Switch"} or not self._graph.inputs(name):
                break
            inverted ^= node.op == "LogicalNot"
            name = self._graph.inputs(name)[0].node
        return self._truth(name, switch) ^ inverted

    def _truth(self, name: str, switch: str) -> bool:
        node = self._graph.find(name, switch)
        if name in self._assumed:
            return self._assumed[name]
        if node.op == "PlaceholderWithDefault" and self._graph.inputs(name):
            node = self._graph.find(self._graph.inputs(name)[0].node, name)
        if node.op != "Const" or "value" not in node.attr:
            raise ParseError(
                f"node {switch!r} (Switch) depends on {name!r} ({node.op}), which is not known when the file is read"
            )
        value = attribute(node.attr["value"])
        return bool(value.reshape(-1)[0]) if getattr(value, "size", 0) else False
