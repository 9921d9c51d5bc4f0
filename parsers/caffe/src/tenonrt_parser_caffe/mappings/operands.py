"""What mappings share: checked bottoms, axes, shapes, and steps that Caffe leaves to its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Dimension, GraphBuilder, ParseError, SourceNode, Tensor

Inputs = Sequence[Tensor | None]
Filler = Mapping[str, Any] | None


def bottoms(inputs: Inputs, least: int, most: int | None = None) -> list[Tensor]:
    """All bottoms, between ``least`` and ``most`` of them (as many as ``least`` by default; -1: any number)."""
    found = [tensor for tensor in inputs if tensor is not None]
    most = least if most is None else most
    if len(found) < least or (most >= 0 and len(found) > most):
        wanted = str(least) if most == least else f"at least {least}" if most < 0 else f"{least} to {most}"
        raise ParseError(f"has {len(found)} bottoms; it takes {wanted}")
    return found


def bottom(inputs: Inputs) -> Tensor:
    """The only bottom."""
    return bottoms(inputs, 1)[0]


def rank(tensor: Tensor) -> int:
    """How many axes a tensor has."""
    return len(tensor.type.shape)


def sizes(tensor: Tensor, start: int = 0, end: int | None = None) -> tuple[int, ...]:
    """Dimensions as numbers; `ParseError` when one is not fixed."""
    found = tensor.type.shape[start:end]
    if not all(isinstance(size, int) for size in found):
        raise ParseError(f"needs fixed sizes; its bottom {tensor.name!r} is {tensor.type}")
    return tuple(size for size in found if isinstance(size, int))


def axis(node: SourceNode, tensor: Tensor, name: str = "axis", extra: int = 0) -> int:
    """An axis that may be negative, checked. extra: how far past the last one it may point."""
    value, count = int(node.attrs[name]), rank(tensor) + extra
    if not -count <= value < count:
        raise ParseError(f"{name} is {value}; the bottom is {tensor.type}")
    return value % count


def positive(node: SourceNode, name: str) -> int:
    """A number that must be given and be at least one."""
    value = node.attrs.get(name)
    if not value or value < 1:
        raise ParseError(f"{name} is {value}; it must be at least 1")
    return int(value)


def scalar(value: float) -> Array:
    """An operand of one element."""
    return np.full(1, value, np.float32)


def one(tensors: Sequence[Tensor]) -> Tensor:
    """The only output of a layer just added."""
    return tensors[0]


def binary(builder: GraphBuilder, operation: str, a: Tensor | Array, b: Tensor | Array) -> Tensor:
    """An elementwise operation of two operands."""
    return one(builder.add("Elementwise", [a, b], {"operation": operation}))


def affine(builder: GraphBuilder, x: Tensor, shift: float = 0.0, scale: float = 1.0, power: float = 1.0) -> Tensor:
    """(shift + scale * x) ** power, leaving out what changes nothing."""
    operands = [None if v == neutral else scalar(v) for v, neutral in ((shift, 0.0), (scale, 1.0), (power, 1.0))]
    return x if operands == [None] * 3 else one(builder.add("Scale", [x, *operands], {"mode": "uniform"}))


def reshape(builder: GraphBuilder, x: Tensor, shape: Sequence[Dimension]) -> Tensor:
    """x in another shape. A size that is not fixed must stay at its place, or be the only such."""
    if tuple(shape) == tuple(x.type.shape):
        return x
    target: list[int] = []
    for place, size in enumerate(shape):
        if isinstance(size, int):
            target.append(size)
        else:
            target.append(0 if place < rank(x) and x.type.shape[place] == size else -1)
    if target.count(-1) > 1 or (0 in target and any(size == 0 for size in shape)):
        raise ParseError(f"cannot reshape {x.type} to {tuple(map(str, shape))}: too many sizes are not fixed")
    zeros = any(size == 0 for size in target) and not any(size == 0 for size in shape if isinstance(size, int))
    return one(builder.add("Reshape", [x, np.array(target, np.int64)], {"zero_copies": zeros}))


def merged(sizes: Sequence[Dimension]) -> Dimension:
    """The product of dimensions."""
    total: Dimension = 1
    for size in sizes:
        total = total * size
    return total


def filler(node: SourceNode, name: str) -> Filler:
    """A filler of the layer, None when it has none."""
    found: Filler = node.attrs.get(name)
    return found
