"""What a model needs before any of it is translated: operators that somebody maps, and functions of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from tenonrt import PluginError
from tenonrt.contracts import LayerMapping, ParseError

from tenonrt_parser_onnx.lacking import Lacking
from tenonrt_parser_onnx.model import FunctionKey, function_key
from tenonrt_parser_onnx.order import describe, nested_graphs
from tenonrt_parser_onnx.standard import MAX_BODY, function_schema

if TYPE_CHECKING:
    from onnx import FunctionProto, NodeProto

MAX_DEPTH = 64
MAX_NODES = 1_000_000  # after expanding functions: calls within calls multiply
Find = Callable[[str, str, int], LayerMapping | None]
FindInPack = Callable[[str, str], LayerMapping | None]


class Survey:
    """Walks every node, those of nested graphs and of the functions called included."""

    def __init__(
        self, functions: Mapping[FunctionKey, FunctionProto], find: Find, pack: FindInPack | None = None
    ) -> None:
        self._functions = functions
        self._find = find
        self._pack = pack
        self._sizes: dict[FunctionKey, tuple[int, int]] = {}
        self._open: list[FunctionKey] = []
        self._versions: Mapping[str, int] = {}
        self._lacking = Lacking()

    def check(self, nodes: Iterable[NodeProto], versions: Mapping[str, int]) -> Lacking:
        """The operators that nothing maps; `ParseError` for endless or huge functions."""
        self._versions = versions
        size, _ = self._nodes(nodes, 1)
        if size > MAX_NODES:
            raise ParseError(f"expanding the functions gives {size} nodes, more than the {MAX_NODES} allowed")
        return self._lacking

    def _nodes(self, nodes: Iterable[NodeProto], depth: int) -> tuple[int, int]:
        """Number of nodes once expanded, and how deep they nest."""
        if depth > MAX_DEPTH:
            raise ParseError(f"graphs and functions nest deeper than {MAX_DEPTH}")
        size, below = 0, 0
        for index, node in enumerate(nodes):
            parts = [self._nodes(graph.node, depth + 1) for graph in nested_graphs(node)]
            parts.append(self._operator(node, index, depth))
            size += 1 + sum(s for s, _ in parts)
            below = max([below, *(d for _, d in parts)])
        if depth + below > MAX_DEPTH:
            raise ParseError(f"graphs and functions nest deeper than {MAX_DEPTH}")
        return size, below + 1

    def _in_pack(self, domain: str, kind: str) -> bool:
        return self._pack is not None and self._pack(domain, kind) is not None

    def _version(self, domain: str) -> int:
        return self._versions.get(domain) or 1

    def _operator(self, node: NodeProto, index: int, depth: int) -> tuple[int, int]:
        key = function_key(node)
        domain, kind, _ = key
        reason = None
        try:
            if self._find(domain, kind, self._version(domain)) is not None:
                self._lacking.provide("onnx", key[:2])
                return 0, 0
        except PluginError as error:
            reason = str(error)
        if reason is None and key not in self._functions and function_schema(domain, kind, self._version(domain)):
            self._lacking.provide("", key[:2])
            return MAX_BODY, 1
        if reason is None and key not in self._functions and self._in_pack(domain, kind):
            self._lacking.provide("onnx_reference", key[:2])
            return 0, 0
        if reason is not None or key not in self._functions:
            where = f" in function {self._open[-1][1]}" if self._open else ""
            self._lacking.add((domain, kind), self._versions.get(domain), describe(node, index) + where, reason)
            return 0, 0
        if key in self._open:
            raise ParseError(f"function {key[1]!r} calls itself: {' -> '.join([k[1] for k in self._open] + [key[1]])}")
        self._lacking.provide("", key[:2])
        if key not in self._sizes:
            self._open.append(key)
            self._sizes[key] = self._nodes(self._functions[key].node, depth + 1)
            self._open.pop()
        return self._sizes[key]
