"""What must hold of every graph, checked after parsing and after each phase of passes."""

from __future__ import annotations

from tenonrt.errors import GraphError
from tenonrt.graph.graph import Graph


def verify(graph: Graph) -> None:
    """`GraphError` names the first tensor or layer that breaks an invariant."""
    available = set(graph.inputs)
    for layer in graph.layers:  # sorting finds cycles
        for tensor in layer.inputs:
            if tensor is None or tensor.constant is not None:
                continue
            if tensor not in available:
                raise GraphError(f"layer {layer.name!r} reads {tensor.name!r}, which nothing in {graph.name!r} makes")
            if layer not in tensor.readers:
                raise GraphError(f"tensor {tensor.name!r} does not know its reader {layer.name!r}")
        for tensor in layer.outputs:
            if tensor.producer is not layer:
                raise GraphError(f"tensor {tensor.name!r} is an output of {layer.name!r} but names another producer")
        available.update(layer.outputs)
        for subgraph in layer.graphs:
            verify(subgraph)
    for name, tensor in graph.outputs.items():
        if tensor not in available and tensor.constant is None:
            raise GraphError(f"output {name!r} of {graph.name!r} is {tensor.name!r}, which nothing makes")
