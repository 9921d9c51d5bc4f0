"""Questions about the layers around a tensor that several patterns ask."""

from __future__ import annotations

import numpy as np
from tenonrt.contracts import GraphView, Layer, Tensor, is_float


def sole(view: GraphView, tensor: Tensor | None, kind: str, operation: str | None = None) -> Layer | None:
    """The layer of this kind (and operation) that made a tensor for one reader alone."""
    if tensor is None or view.is_output(tensor) or len(set(map(id, view.consumers(tensor)))) != 1:
        return None
    return maker(view, tensor, kind, operation)


def maker(view: GraphView, tensor: Tensor | None, kind: str, operation: str | None = None) -> Layer | None:
    """The layer of this kind (and operation) that made a tensor, for however many readers."""
    layer = None if tensor is None else view.producer(tensor)
    if layer is None or layer.kind != kind:
        return None
    return layer if operation is None or layer.attrs.operation == operation else None


def scalar(tensor: Tensor | None) -> float | None:
    """The value of a constant of one floating-point element."""
    constant = None if tensor is None else tensor.constant
    if tensor is None or constant is None or constant.size != 1 or not is_float(tensor.type.dtype):
        return None
    return float(np.asarray(constant, np.float64).reshape(()))


def axes_of(layer: Layer) -> tuple[int, ...]:
    """The axes of a Reduce, in order, counted from the first."""
    source = layer.inputs[0]
    assert source is not None
    rank = source.type.rank
    given = range(rank) if layer.attrs.axes is None else (axis % rank for axis in layer.attrs.axes)
    return tuple(sorted(given))
