"""Layers that operations of UFF and of TensorFlow have in common, from tensors as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor, known_values, normalize_axis

Inputs = Sequence[Tensor | None]

MAXIMUM, MINIMUM = 2**63 - 1, -(2**63)


def single(
    builder: GraphBuilder,
    kind: str,
    inputs: Sequence[Tensor | Array | None],
    attrs: Mapping[str, Any] | None = None,
) -> Tensor:
    """A layer with one output."""
    return builder.add(kind, inputs, attrs)[0]


def given(inputs: Inputs, index: int, what: str) -> Tensor:
    """An input that an operation needs; `ParseError` says which is missing."""
    tensor = inputs[index] if index < len(inputs) else None
    if tensor is None:
        raise ParseError(f"input {index} ({what}) is missing; it has {len(inputs)} inputs")
    return tensor


def check_count(inputs: Inputs, least: int, most: int | None = None) -> None:
    """`ParseError` for too few or too many inputs."""
    most = least if most is None else most
    if not least <= len(inputs) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ParseError(f"has {len(inputs)} inputs, expected {wanted}")


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the first; `ParseError` when there is none such."""
    try:
        return normalize_axis(axis, rank)
    except ValueError as error:
        raise ParseError(str(error)) from error


def transpose(builder: GraphBuilder, tensor: Tensor, permutation: Sequence[int]) -> Tensor:
    """Axis i of the result is axis permutation[i]. Constants are transposed now, as views."""
    if tuple(permutation) == tuple(range(len(permutation))):
        return tensor
    if tensor.constant is not None:
        return builder.constant(np.transpose(tensor.constant, permutation))
    return single(builder, "Transpose", [tensor], {"permutation": tuple(permutation)})


def reshape(builder: GraphBuilder, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A constant shape, in which zero is an empty axis and -1 what is left."""
    return single(builder, "Reshape", [tensor, np.array(shape, np.int64)], {"zero_copies": False})


def integers(tensor: Tensor, what: str) -> list[int]:
    """The elements of an integer input whose value is known while reading the file."""
    if not tensor.type.dtype.startswith(("int", "uint")):
        raise ParseError(f"{what} must be integers, found {tensor.type}")
    if tensor.constant is not None:
        if tensor.constant.size > 1024:
            raise ParseError(f"{what} has {tensor.constant.size} elements; at most 1024 make sense")
        return [int(value) for value in tensor.constant.reshape(-1)]
    values = known_values(tensor.info)
    if values is None or not all(isinstance(value, int) for value in values):
        raise ParseError(f"{what} must be known when the file is read, but {tensor.name!r} is computed")
    return [int(value) for value in values if isinstance(value, int)]


def shape_operand(builder: GraphBuilder, tensor: Tensor, what: str) -> Tensor | Array:
    """A vector of int64, as layers take shapes."""
    if tensor.constant is not None:
        return np.array(integers(tensor, what), np.int64)
    return cast(builder, tensor, "int64")


def cast(builder: GraphBuilder, tensor: Tensor, dtype: str) -> Tensor:
    """The tensor itself where it has the element type."""
    return tensor if tensor.type.dtype == dtype else single(builder, "Cast", [tensor], {"to": dtype})


def scalar_like(tensor: Tensor, value: float) -> Array:
    """A constant of a tensor's element type."""
    return np.array(value, tensor.type.numpy)


def elementwise(builder: GraphBuilder, operation: str, a: Tensor | Array, b: Tensor | Array) -> Tensor:
    """Two operands, broadcast."""
    return single(builder, "Elementwise", [a, b], {"operation": operation})


def unary(builder: GraphBuilder, operation: str, x: Tensor) -> Tensor:
    """The operations of the Unary layer, and three more that both formats have."""
    if operation == "square":
        return elementwise(builder, "prod", x, x)
    if operation == "rsqrt":
        return unary(builder, "recip", unary(builder, "sqrt", x))
    return single(builder, "Unary", [x], {"operation": operation})


def activation(builder: GraphBuilder, function: str, x: Tensor, alpha: float | None = None) -> Tensor:
    """relu6, and the functions of the Activation layer."""
    if function == "relu6":
        return single(builder, "Activation", [x], {"function": "clip", "alpha": 0.0, "beta": 6.0})
    return single(builder, "Activation", [x], {"function": function, "alpha": alpha})


def stack(builder: GraphBuilder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Equal shapes along a new axis."""
    axis = axis_of(axis, tensors[0].type.rank + 1)
    return concatenate(builder, [single(builder, "Unsqueeze", [t], {"axes": (axis,)}) for t in tensors], axis)


def concatenate(builder: GraphBuilder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """One after the other along an existing axis."""
    return single(builder, "Concatenation", tensors, {"axis": axis})


def pad(builder: GraphBuilder, x: Tensor, sides: Sequence[tuple[int, int]], **extra: Any) -> Tensor:
    """(before, after) for every axis; ``extra``: a value, and the mode."""
    if len(sides) != x.type.rank:
        raise ParseError(f"paddings are given for {len(sides)} axes of {x.type}")
    pads = np.array([side[0] for side in sides] + [side[1] for side in sides], np.int64)
    value, mode = extra.get("value"), extra.get("mode", "constant")
    return single(builder, "Padding", [x, pads, value], {"mode": mode})


def pairs(tensor: Tensor, what: str) -> list[tuple[int, int]]:
    """A constant [n, 2] as pairs."""
    if tensor.type.rank != 2 or tensor.type.shape[1] != 2:
        raise ParseError(f"{what} must be [rank, 2], found {tensor.type}")
    flat = integers(tensor, what)
    if any(not MINIMUM <= value <= MAXIMUM for value in flat):
        raise ParseError(f"{what} holds a number past 64 bits")
    return list(zip(flat[::2], flat[1::2], strict=True))


def shape_of(builder: GraphBuilder, x: Tensor, dtype: str = "int32") -> Tensor:
    """The shape, by default in TensorFlow's type for shapes, so that it agrees with constants in arithmetic."""
    return cast(builder, single(builder, "Shape", [x]), dtype)


def number(node: SourceNode, name: str, default: float | None = None) -> float:
    """A number of an attribute or field; `ParseError` names it."""
    value = node.attrs.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParseError(f"{name!r} is {_shown(value)}, expected a number")
    return float(value)


def integer(node: SourceNode, name: str, default: int | None = None) -> int:
    """A whole number of an attribute or field."""
    value = node.attrs.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or not MINIMUM <= value <= MAXIMUM:
        raise ParseError(f"{name!r} is {_shown(value)}, expected an integer")
    return int(value)


def flag(node: SourceNode, name: str, default: bool = False) -> bool:
    """A boolean, also where a file has a number in its place."""
    value = node.attrs.get(name)
    return default if value is None else bool(integer(node, name))


def numbers(node: SourceNode, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """A list of whole numbers."""
    value = node.attrs.get(name)
    value = default if value is None else value
    if not isinstance(value, (tuple, list)) or not all(isinstance(v, int) for v in value):
        raise ParseError(f"{name!r} is {_shown(value)}, expected a list of integers")
    return tuple(int(v) for v in value)


def text(node: SourceNode, name: str, default: str | None = None) -> str:
    """A string."""
    value = node.attrs.get(name)
    value = default if value is None else value
    if not isinstance(value, str):
        raise ParseError(f"{name!r} is {_shown(value)}, expected a string")
    return value


def chosen(node: SourceNode, name: str, known: Mapping[str, str], default: str | None = None) -> str:
    """One of the known strings, translated."""
    value = text(node, name, default)
    if value not in known:
        raise ParseError(f"{name!r} is {_shown(value)}, expected one of {', '.join(known)}")
    return known[value]


def _shown(value: Any) -> str:
    shown = "missing" if value is None else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
