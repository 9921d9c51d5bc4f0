"""Tensors, layers and graphs. Only the core changes them; plugins see them through the read-only Protocols."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np

from tenonrt.contracts import LayerType
from tenonrt.errors import GraphError
from tenonrt.types import MAX_VALUE_ELEMENTS, Array, Range, TensorInfo, TensorType, dtype_name


class Tensor:
    """One value of a graph in static single assignment form."""

    __slots__ = ("constant", "index", "info", "name", "producer", "range", "readers")

    def __init__(self, name: str, info: TensorInfo, constant: Array | None = None) -> None:
        self.name = name
        self.info = info
        self.constant = constant
        self.range: Range | None = None
        self.producer: Layer | None = None
        self.index = 0  # which output of the producer
        self.readers: dict[Layer, int] = {}  # how many inputs of each layer it is, in order of arrival

    @property
    def type(self) -> TensorType:
        return self.info.type

    def __repr__(self) -> str:
        return f"<Tensor {self.name}: {self.type}>"


class Layer:
    """One node. ``inputs`` ends with the ``captured`` tensors of the outer graph that its subgraphs read."""

    __slots__ = (
        "attrs", "captured", "graphs", "inputs", "kind", "layer_type", "name", "outputs", "patches", "position",
        "sources",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        name: str,
        layer_type: LayerType,
        attrs: Any,
        inputs: tuple[Tensor | None, ...],
        graphs: tuple[Graph, ...] = (),
        captured: int = 0,
    ) -> None:
        self.kind = kind
        self.name = name
        self.layer_type = layer_type
        self.attrs = attrs
        self.inputs = inputs
        self.outputs: tuple[Tensor, ...] = ()
        self.graphs = graphs
        self.captured = captured
        self.sources: tuple[str, ...] = ()
        self.patches: tuple[str, ...] = ()  # the patches that made it, oldest first
        self.position = 0  # never less than that of a producer of an input; see Graph.order

    @property
    def declared_inputs(self) -> tuple[Tensor | None, ...]:
        """The inputs without the captured ones."""
        return self.inputs[: len(self.inputs) - self.captured]

    def __repr__(self) -> str:
        return f"<Layer {self.kind} {self.name}>"


class Graph:
    """Layers between inputs and named outputs. Implements `NetworkView`."""

    def __init__(self, name: str = "network", outer: Graph | None = None) -> None:
        self.name = name
        self.inputs: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.captures: list[tuple[Tensor, Tensor]] = []  # (outer tensor, the input of this graph that stands for it)
        self._layers: dict[Layer, None] = {}
        self._order: list[Layer] | None = None
        # Graphs within graphs share their names: reports, recorded choices and the symbols of unknown sizes go by them.
        self._names: dict[str, int] = {} if outer is None else outer._names
        self._output_counts: dict[Tensor, int] = {}
        self._stale = False  # a layer may have a smaller position than a producer of its input

    # questions -------------------------------------------------------------------------------------------------------

    @property
    def layers(self) -> Sequence[Layer]:
        """All layers, producers before readers."""
        if self._order is None:
            self._order = self._sort()
        return self._order

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, layer: Layer) -> bool:
        return layer in self._layers

    def producer(self, tensor: Any) -> Layer | None:
        found: Layer | None = tensor.producer
        return found

    def consumers(self, tensor: Any) -> Sequence[Layer]:
        return list(tensor.readers)

    def is_output(self, tensor: Any) -> bool:
        return tensor in self._output_counts

    def layer_type(self, layer: Any) -> LayerType:
        found: LayerType = layer.layer_type
        return found

    def graphs(self, layer: Any) -> Sequence[Graph]:
        found: Sequence[Graph] = layer.graphs
        return found

    # changes ---------------------------------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """``name``, or ``name_2`` and so on when it is taken."""
        count = self._names.get(name, 0) + 1
        self._names[name] = count
        return name if count == 1 else self.unique(f"{name}_{count}")

    def add_input(self, name: str, info: TensorInfo) -> Tensor:
        tensor = Tensor(self.unique(name), info)
        self.inputs.append(tensor)
        return tensor

    def add_constant(self, values: Array, name: str | None = None) -> Tensor:
        """The array is kept, not copied, and marked read-only through a view, where it is as plans and kernels have it.

        Bytes in another order than the machine's, and strings of fixed width, are converted.
        """
        view = _canonical(values).view()
        view.flags.writeable = False
        return Tensor(name or "constant", constant_info(view), view)

    def set_output(self, name: str, tensor: Tensor) -> None:
        old = self.outputs.get(name)
        if old is not None:
            self._count_output(old, -1)
        self.outputs[name] = tensor
        self._count_output(tensor, 1)

    def drop_output(self, name: str) -> None:
        """The tensor of this output stays, but is an output no more by this name."""
        self._count_output(self.outputs.pop(name), -1)

    def attach(self, layer: Layer, infos: Sequence[TensorInfo]) -> None:
        """Add a layer whose outputs have been inferred."""
        names = [layer.name] if len(infos) == 1 else [f"{layer.name}:{i}" for i in range(len(infos))]
        layer.outputs = tuple(Tensor(name, info) for name, info in zip(names, infos, strict=True))
        for index, tensor in enumerate(layer.outputs):
            tensor.producer, tensor.index = layer, index
        for tensor in _present(layer.inputs):
            tensor.readers[layer] = tensor.readers.get(layer, 0) + 1
        layer.position = max((t.producer.position for t in _present(layer.inputs) if t.producer), default=0)
        self._layers[layer] = None
        if self._order is not None:
            self._order = None

    def detach(self, layer: Layer) -> None:
        """Remove a layer; its outputs must be unused."""
        del self._layers[layer]
        for tensor in set(_present(layer.inputs)):
            del tensor.readers[layer]
        self._order = None

    def replace_uses(self, old: Tensor, new: Tensor, readers: Iterable[Layer]) -> None:
        """Make ``readers`` and the graph's outputs use ``new`` for ``old``."""
        above = new.producer.position if new.producer is not None else 0
        for layer in list(readers):
            self._stale = self._stale or layer.position < above
            count = old.readers.pop(layer)
            new.readers[layer] = new.readers.get(layer, 0) + count
            layer.inputs = tuple(new if tensor is old else tensor for tensor in layer.inputs)
        for name, tensor in list(self.outputs.items()):
            if tensor is old:
                self.set_output(name, new)
        self._order = None

    def used(self, layer: Layer) -> bool:
        """Whether anything reads an output of the layer."""
        return any(tensor.readers or self.is_output(tensor) for tensor in layer.outputs)

    def reaches(self, start: Any, targets: Collection[Any]) -> bool:
        """Whether ``start`` depends on any of ``targets`` (walking producers, pruned by position)."""
        if self._stale:
            self._order = self._sort()
        floor = min((layer.position for layer in targets), default=0)
        stack, seen = [start], {start}
        while stack:
            layer = stack.pop()
            if layer in targets:
                return True
            for tensor in _present(layer.inputs):
                above = tensor.producer
                if above is not None and above not in seen and above.position >= floor:
                    seen.add(above)
                    stack.append(above)
        return False

    def _count_output(self, tensor: Tensor, change: int) -> None:
        count = self._output_counts.get(tensor, 0) + change
        if count:
            self._output_counts[tensor] = count
        else:
            del self._output_counts[tensor]

    def _sort(self) -> list[Layer]:
        """Topological order that keeps the order of arrival where it can; renews `Layer.position`."""
        order = list(self._layers)
        rank = {layer: i for i, layer in enumerate(order)}
        if any(
            rank[tensor.producer] >= i
            for i, layer in enumerate(order)
            for tensor in _present(layer.inputs)
            if tensor.producer is not None
        ):
            order = self._sort_depth_first()
            self._layers = dict.fromkeys(order)
        for position, layer in enumerate(order):
            layer.position = position
        self._stale = False
        return order

    def _sort_depth_first(self) -> list[Layer]:
        edges = {
            layer: [t.producer for t in _present(layer.inputs) if t.producer is not None] for layer in self._layers
        }
        try:
            return list(TopologicalSorter(edges).static_order())
        except CycleError as error:
            names = " -> ".join(layer.name for layer in error.args[1])
            raise GraphError(f"the layers of {self.name!r} form a cycle: {names}") from error


def _present(tensors: Iterable[Tensor | None]) -> list[Tensor]:
    return [tensor for tensor in tensors if tensor is not None]


# A small float vector can be a scale list of a resize; a longer one is never an operand of shape arithmetic.
_MAX_FLOAT_ELEMENTS = 16


def constant_info(values: Array) -> TensorInfo:
    """Type of an array; small ones carry their value for shape arithmetic."""
    limit = MAX_VALUE_ELEMENTS if values.dtype.kind in "iub" else _MAX_FLOAT_ELEMENTS
    known = values.astype(object) if values.size <= limit and values.dtype.kind in "iubf" else None
    return TensorInfo(TensorType(values.shape, dtype_name(values.dtype)), value=known)


def _canonical(values: Array) -> Array:
    if dtype_name(values.dtype) == "string":
        return values.astype(object, copy=False)
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def as_array(values: Any) -> Array:
    """An array from what a caller gave: sequences of integers become int64, Python floats float32."""
    array = np.asarray(values)
    if isinstance(values, np.ndarray | np.generic):
        return array
    return array.astype(np.float32) if array.dtype == np.float64 else array
