"""Finding everything that a model lacks once something was found missing: what cannot be made has stand-ins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenonrt import PluginError
from tenonrt.contracts import (
    Array,
    Attributes,
    GraphBuilder,
    GraphError,
    LayerMapping,
    ParseError,
    Place,
    Range,
    Tensor,
    TensorInfo,
    TensorType,
)

from tenonrt_parser_onnx.lacking import Lacking
from tenonrt_parser_onnx.model import Model, function_key, standard_domain
from tenonrt_parser_onnx.order import describe
from tenonrt_parser_onnx.standard import function_schema
from tenonrt_parser_onnx.translate import PACK, Frame, Scope, Translator

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(eq=False)
class StandIn:
    """A tensor that no layer could make. Its type is a guess, which only keeps the mappings of its readers going."""

    name: str
    type: TensorType
    constant: Array | None = None
    range: Range | None = None

    @property
    def info(self) -> TensorInfo:
        return TensorInfo(self.type)


class Probe(Translator):
    """Translates a graph into a builder of no further use, going on after every failure, and notes what was missing."""

    def __init__(self, model: Model, lacking: Lacking) -> None:
        super().__init__(model)
        self.lacking = lacking
        self.node: NodeProto | None = None
        self._where: tuple[tuple[str, str], int | None, str] = ("", "Identity"), None, "an output of the model"

    def run(self, builder: GraphBuilder) -> None:
        """Probe the main graph. What is wrong with the model itself is not looked for."""
        scratch = ProbingBuilder(builder.subgraph("probe"), self)
        try:
            self.graph(self.model.graph, Scope(scratch, self.model), Frame(self.model.versions), nested=False)
        except (ParseError, GraphError):
            return

    def note(self, error: PluginError) -> None:
        """A plugin that the current node needs cannot be had."""
        self.lacking.add(*self._where, str(error))

    def mapping(self, builder: GraphBuilder, domain: str, kind: str, version: int) -> LayerMapping | None:
        try:
            return super().mapping(builder, domain, kind, version)
        except PluginError:
            return None  # the survey has noted it

    def _node(self, node: NodeProto, index: int, scope: Scope, frame: Frame) -> None:
        outer, self.node, where = self.node, node, self._where
        domain = standard_domain(str(node.domain))
        self._where = (domain, str(node.op_type)), frame.versions.get(domain), describe(node, index)
        try:
            version = self._version(domain, frame)
            mapped = self.mapping(scope.builder, domain, str(node.op_type), version) is not None
            defined = mapped or function_key(node) in self.model.functions
            defined = defined or scope.builder.mapping(PACK, *self._where[0]) is not None
            if not defined and function_schema(*self._where[0], version) is None:
                raise ParseError("nothing maps it")
            super()._node(node, index, scope, frame)
        except (ParseError, GraphError):
            scope.tensors.update((name, StandIn(name, TensorType((1, 1, 1, 1)))) for name in node.output if name)
        finally:
            self.node, self._where = outer, where


class ProbingBuilder:
    """A builder whose layers may be missing; implements `GraphBuilder`."""

    def __init__(self, real: GraphBuilder, probe: Probe) -> None:
        self.real = real
        self.probe = probe
        self.whole = True  # no output is a stand-in

    def input(self, name: str, type: TensorType, place: Place = "device") -> Tensor:
        return self.real.input(name, type, place)

    def constant(self, values: Array, name: str | None = None) -> Tensor:
        return self.real.constant(values, name)

    def output(self, tensor: Tensor, name: str | None = None) -> None:
        if isinstance(tensor, StandIn):
            self.whole = False
        else:
            self.real.output(tensor, name)

    def add(
        self,
        kind: str,
        inputs: Sequence[Tensor | Array | None],
        attrs: Mapping[str, Any] | Attributes | None = None,
        *,
        name: str | None = None,
        graphs: Sequence[Any] = (),
    ) -> Sequence[Tensor]:
        try:
            if all(graph.whole for graph in graphs) and not any(isinstance(i, StandIn) for i in inputs):
                return self.real.add(kind, inputs, attrs, name=name, graphs=[graph.real for graph in graphs])
            # Refused for its attributes, unless the kind itself is missing.
            self.real.subgraph("kind").add(kind, (), {"no attribute": None}, name="kind")
        except PluginError as error:
            self.probe.note(error)
        except GraphError:
            pass
        return self._stand_ins(kind, inputs, name)

    def _stand_ins(self, kind: str, inputs: Sequence[Any], name: str | None) -> list[Tensor]:
        """As many as the node has outputs, for the layer that has its name; otherwise one."""
        guess = next((t.type for t in inputs if hasattr(t, "type")), TensorType((1, 1, 1, 1)))
        node = self.probe.node
        count = len(node.output) if node is not None and "/" not in (name or "").removeprefix(node.name) else 1
        return [StandIn(f"{name or kind}:{index}", guess) for index in range(max(count, 1))]

    def subgraph(self, name: str) -> ProbingBuilder:
        return ProbingBuilder(self.real.subgraph(name), self.probe)

    def origin(self, source: str) -> AbstractContextManager[None]:
        return self.real.origin(source)

    def mapping(self, format: str, domain: str, type: str) -> LayerMapping | None:
        return self.real.mapping(format, domain, type)
