"""Which tensors are never negative, whatever the inputs: what the layers say, not what samples showed."""

from __future__ import annotations

from tenonrt.graph.graph import Graph, Layer, Tensor

# Layers whose outputs have no other signs than their inputs'.
_PRESERVING = frozenset(
    "Concatenation DepthToSpace Expand Flatten Gather Identity Pooling Reshape Slice SpaceToDepth Split Squeeze Tile "
    "Transpose Unsqueeze".split()
)
_RECTIFYING = frozenset({"relu", "sigmoid", "hard_sigmoid"})
_OPERATIONS = {
    "Elementwise": frozenset({"sum", "prod", "max", "min"}),
    "Reduce": frozenset({"sum", "mean", "max", "min"}),
}


def nonnegative_tensors(graph: Graph) -> set[Tensor]:
    """Outputs of ReLUs and the like, and of layers that only move, join or average what is not negative."""
    found = set[Tensor]()
    for layer in graph.layers:
        if _rectifies(layer) or (_preserves(layer) and all(_is_known(t, found) for t in layer.inputs)):
            found.update(layer.outputs)
    return found


def _rectifies(layer: Layer) -> bool:
    """Whether a layer makes no negative values of any."""
    if layer.kind != "Activation":
        return layer.kind == "Softmax" and not layer.attrs.log
    if layer.attrs.function == "clip":
        return layer.attrs.alpha is not None and layer.attrs.alpha >= 0.0
    return layer.attrs.function in _RECTIFYING


def _preserves(layer: Layer) -> bool:
    return layer.kind in _PRESERVING or (layer.kind in _OPERATIONS and layer.attrs.operation in _OPERATIONS[layer.kind])


def _is_known(tensor: Tensor | None, found: set[Tensor]) -> bool:
    if tensor is None or tensor.type.dtype in ("int32", "int64"):
        return True  # left out, or sizes and axes
    return tensor in found or (tensor.constant is not None and bool((tensor.constant >= 0).all()))
