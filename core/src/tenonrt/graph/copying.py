"""Copies of graphs, to rewrite each in its own way; constants are shared, never copied."""

from __future__ import annotations

from tenonrt.graph.graph import Graph, Layer, Tensor


def copy_graph(graph: Graph) -> Graph:
    """A graph of its own with the same names."""
    return _copy(graph, None, {})


def _copy(graph: Graph, outer: Graph | None, known: dict[Tensor, Tensor]) -> Graph:
    """``known``: copies of the tensors that graphs around this one may lend it."""
    copied = Graph(graph.name, outer)
    if outer is None:
        copied._names = dict(graph._names)
    copied.inputs = [_copy_tensor(tensor, known) for tensor in graph.inputs]
    copied.captures = [(known[theirs], known[ours]) for theirs, ours in graph.captures]
    for layer in graph.layers:
        _copy_layer(copied, layer, known)
    for name, tensor in graph.outputs.items():
        copied.set_output(name, _copy_tensor(tensor, known))
    return copied


def _copy_tensor(tensor: Tensor, known: dict[Tensor, Tensor]) -> Tensor:
    if tensor not in known:
        known[tensor] = Tensor(tensor.name, tensor.info, tensor.constant)
        known[tensor].range = tensor.range
    return known[tensor]


def _copy_layer(copied: Graph, layer: Layer, known: dict[Tensor, Tensor]) -> None:
    inputs = tuple(None if t is None else _copy_tensor(t, known) for t in layer.inputs)
    graphs = tuple(_copy(graph, copied, known) for graph in layer.graphs)
    made = Layer(layer.kind, layer.name, layer.layer_type, layer.attrs, inputs, graphs, layer.captured)
    made.sources, made.patches = layer.sources, layer.patches
    copied.attach(made, [tensor.info for tensor in layer.outputs])
    for old, new in zip(layer.outputs, made.outputs, strict=True):
        new.name, new.range = old.name, old.range
        known[old] = new
