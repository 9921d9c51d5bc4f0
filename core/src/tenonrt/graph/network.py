"""The network being defined: implements `GraphBuilder` for parsers and TensorRT's ``add_*`` words for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tenonrt.contracts import Attributes, GraphBuilder, LayerMapping, LayerType
from tenonrt.errors import GraphError
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.graph import Graph, Layer, Tensor, as_array
from tenonrt.graph.inference import infer
from tenonrt.plugins.registry import Registry, current_registry
from tenonrt.types import Array, Place, TensorInfo, TensorType, check_possible, numpy_dtype


class Network:
    """A network under construction. Layer kinds come from the installed layer plugins."""

    def __init__(
        self, name: str = "network", registry: Registry | None = None, *, parent: Network | None = None
    ) -> None:
        self.graph: Graph = Graph(name, parent.graph if parent is not None else None)
        self.registry = registry or current_registry()
        self.parent = parent
        self._source: str | None = None
        self._kinds: dict[str, str] = {}  # layer kinds by the names of their methods

    # GraphBuilder ----------------------------------------------------------------------------------------------------

    def input(self, name: str, type: TensorType, place: Place = "device") -> Tensor:
        numpy_dtype(type.dtype)  # refuses unknown element types here, where the input's name is at hand
        try:
            check_possible(type)
        except ValueError as error:
            raise GraphError(f"input {name!r}: {error}") from error
        if any(tensor.name == name for tensor in self.graph.inputs):
            raise GraphError(f"the network has two inputs named {name!r}")
        tensor = self.graph.add_input(name, TensorInfo(type, place))
        tensor.name = name  # what callers bind, whatever layers before it are called
        return tensor

    def constant(self, values: Array, name: str | None = None) -> Tensor:
        return self.graph.add_constant(as_array(values), name)

    def output(self, tensor: Any, name: str | None = None) -> None:
        name = name or tensor.name
        if name in self.graph.outputs:
            raise GraphError(f"the network has two outputs named {name!r}")
        self.graph.set_output(name, self._own(tensor))

    def add(
        self,
        kind: str,
        inputs: Sequence[Any],
        attrs: Mapping[str, Any] | Attributes | None = None,
        *,
        name: str | None = None,
        graphs: Sequence[GraphBuilder] = (),
    ) -> Sequence[Tensor]:
        layer_type = self.registry.layer_type(kind)
        name = self.graph.unique(name or self._source or kind)
        built = make_attrs(layer_type, kind, name, attrs)
        tensors = [self._operand(value) for value in inputs]
        _check_arity(layer_type, kind, name, tensors)
        subgraphs, captured = self._adopt(graphs)
        layer = Layer(kind, name, layer_type, built, (*tensors, *captured), subgraphs, len(captured))
        layer.sources = (self._source,) if self._source else (name,)
        self.graph.attach(layer, infer(layer))
        return layer.outputs

    def subgraph(self, name: str) -> Network:
        return Network(name, self.registry, parent=self)

    @contextmanager
    def origin(self, source: str) -> Iterator[None]:
        before, self._source = self._source, source
        try:
            yield
        finally:
            self._source = before

    def mapping(self, format: str, domain: str, type: str) -> LayerMapping | None:
        return self.registry.mapping(f"{format}:{domain}:{type}")

    # TensorRT's words ------------------------------------------------------------------------------------------------

    def add_input(self, name: str, shape: Sequence[Any], dtype: str = "float32") -> Tensor:
        """A network input; dimensions are ints or symbols made by `tenonrt.symbol`."""
        return self.input(name, TensorType(tuple(shape), dtype))

    def add_constant(self, values: Any, name: str | None = None) -> Tensor:
        return self.constant(as_array(values), name)

    def mark_output(self, tensor: Tensor, name: str | None = None) -> None:
        self.output(tensor, name)

    @property
    def inputs(self) -> list[Tensor]:
        return self.graph.inputs

    @property
    def outputs(self) -> dict[str, Tensor]:
        return self.graph.outputs

    @property
    def layers(self) -> Sequence[Layer]:
        return self.graph.layers

    def __getattr__(self, attribute: str) -> Callable[..., Any]:
        """``network.add_convolution(x, weights, bias, stride=(2, 2))``: the method of every installed layer kind."""
        if not attribute.startswith("add_"):
            raise AttributeError(f"a Network has no attribute {attribute!r}")
        wanted = attribute.removeprefix("add_")
        if not self._kinds:
            self._kinds = {snake_case(kind): kind for kind in self.registry.names("tenonrt.layers")}
        kinds = self._kinds
        if wanted not in kinds:
            raise AttributeError(f"no installed layer plugin offers {attribute!r}; there are {sorted(kinds)}")

        def add_layer(*inputs: Any, name: str | None = None, **attrs: Any) -> Any:
            outputs = self.add(kinds[wanted], inputs, attrs, name=name)
            return outputs[0] if len(outputs) == 1 else tuple(outputs)

        return add_layer

    # inside ----------------------------------------------------------------------------------------------------------

    def _operand(self, value: Any) -> Tensor | None:
        if value is None:
            return None
        return self._own(value) if isinstance(value, Tensor) else self.constant(value)

    def _own(self, tensor: Tensor) -> Tensor:
        """The tensor itself when it is of this graph, else the input that captures it from an outer one."""
        if tensor.constant is not None or self.parent is None or self._defines(tensor):
            return tensor
        outer = self.parent._own(tensor)
        for known, inner in self.graph.captures:
            if known is outer:
                return inner
        inner = self.graph.add_input(f"captured/{tensor.name}", outer.info)
        self.graph.captures.append((outer, inner))
        return inner

    def _defines(self, tensor: Tensor) -> bool:
        return tensor.producer in self.graph if tensor.producer else tensor in self.graph.inputs

    def _adopt(self, builders: Sequence[Any]) -> tuple[tuple[Graph, ...], list[Tensor]]:
        """Give all subgraphs of a layer the same captured tensors in the same order."""
        graphs = tuple(builder.graph for builder in builders)
        captured = list(dict.fromkeys(outer for graph in graphs for outer, _ in graph.captures))
        for graph in graphs:
            inner = dict(graph.captures)
            declared = [t for t in graph.inputs if t not in inner.values()]
            for outer in captured:
                if outer not in inner:
                    inner[outer] = graph.add_input(f"captured/{outer.name}", outer.info)
            graph.captures = [(outer, inner[outer]) for outer in captured]
            graph.inputs = [*declared, *(inner[outer] for outer in captured)]
        return graphs, captured


def _check_arity(layer_type: LayerType, kind: str, name: str, inputs: list[Tensor | None]) -> None:
    declared = layer_type.inputs
    variadic = bool(declared) and declared[-1].endswith("*")
    if not variadic and len(inputs) > len(declared):
        raise GraphError(f"layer {name!r} ({kind}) takes {len(declared)} inputs {declared}, not {len(inputs)}")
    for index, label in enumerate(declared):
        absent = index >= len(inputs) or inputs[index] is None
        if absent and not label.endswith(("?", "*")):
            raise GraphError(f"layer {name!r} ({kind}) lacks its input {index}, {label!r}")
    if not variadic:
        inputs.extend([None] * (len(declared) - len(inputs)))


def snake_case(kind: str) -> str:
    """``MatrixMultiply`` -> ``matrix_multiply``; ``acme.Swish6`` -> ``acme_swish6``; ``LRN`` -> ``lrn``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).replace(".", "_").lower()
