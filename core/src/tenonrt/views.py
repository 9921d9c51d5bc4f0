"""What authors of plugins are handed of a graph: to read it, and to fill a new one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from tenonrt.types import Array, Place, Range, TensorInfo, TensorType

if TYPE_CHECKING:
    from tenonrt.contracts import Attributes, LayerMapping, LayerType


class Tensor(Protocol):
    """An edge of a graph: written by one layer (or an input, or a constant), read by any number."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> TensorType: ...
    @property
    def info(self) -> TensorInfo:
        """Type, place, and the inferred value where shape arithmetic knows it."""

    @property
    def constant(self) -> Array | None:
        """The values, read only, when the tensor is a constant of the network."""

    @property
    def range(self) -> Range | None:
        """The calibrated range, None when nobody gave one."""


class Layer(Protocol):
    """A node of a graph."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def attrs(self) -> Any:
        """An instance of the layer type's `Attributes`."""

    @property
    def inputs(self) -> Sequence[Tensor | None]:
        """Declared inputs (None: an optional one left out), then the tensors its subgraphs capture."""

    @property
    def outputs(self) -> Sequence[Tensor]: ...
    @property
    def sources(self) -> Sequence[str]:
        """Names of the model's own nodes that this layer came from."""


class GraphView(Protocol):
    """Questions a pass or a kernel may ask about the graph. Nothing here changes it."""

    @property
    def layers(self) -> Sequence[Layer]:
        """All layers in topological order."""

    def producer(self, tensor: Tensor) -> Layer | None: ...
    def consumers(self, tensor: Tensor) -> Sequence[Layer]: ...
    def is_output(self, tensor: Tensor) -> bool: ...
    def layer_type(self, layer: Layer) -> LayerType: ...
    def reaches(self, start: Layer, targets: Collection[Layer]) -> bool:
        """Whether a layer is one of these or needs what they compute; quick for layers that are near each other."""


class NetworkView(GraphView, Protocol):
    """A whole graph with its ends: what an exporter writes down."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Tensor]:
        """In order of definition; of a layer's graph, last those that stand for tensors it captures."""

    @property
    def captures(self) -> Sequence[tuple[Tensor, Tensor]]:
        """The outer tensors that a layer's graph reads, each with the input that stands for it."""

    @property
    def outputs(self) -> Mapping[str, Tensor]: ...
    def graphs(self, layer: Layer) -> Sequence[NetworkView]:
        """The graphs that a control layer owns."""


class GraphBuilder(Protocol):
    """What parsers and mappings fill. A subgraph's builder captures tensors of the outer graph by being given them."""

    def input(self, name: str, type: TensorType, place: Place = "device") -> Tensor: ...
    def constant(self, values: Array, name: str | None = None) -> Tensor: ...
    def output(self, tensor: Tensor, name: str | None = None) -> None: ...

    def add(
        self,
        kind: str,
        inputs: Sequence[Tensor | Array | None],
        attrs: Mapping[str, Any] | Attributes | None = None,
        *,
        name: str | None = None,
        graphs: Sequence[GraphBuilder] = (),
    ) -> Sequence[Tensor]:
        """Add a layer and return its outputs. Arrays become constants. `GraphError` says what was refused."""

    def subgraph(self, name: str) -> GraphBuilder:
        """A builder for a graph that a control layer (If, Loop, Scan) will own."""

    def origin(self, source: str) -> AbstractContextManager[None]:
        """Layers added inside are reported as coming from this node of the model."""

    def mapping(self, format: str, domain: str, type: str) -> LayerMapping | None:
        """The installed `tenonrt.mappings` entry ``format:domain:type``, or None."""
