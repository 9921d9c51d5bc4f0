"""Typed reading of a node's attributes and inputs, and adding layers under its name.

Errors here speak of the attribute or input only; the parser puts the file and the node in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Dim, GraphBuilder, ParseError, SourceNode, Tensor, is_float

Inputs = Sequence[Tensor | None]


def emit(
    builder: GraphBuilder,
    node: SourceNode,
    kind: str,
    inputs: Sequence[Tensor | Array | None],
    attrs: Mapping[str, Any] | None = None,
    *,
    part: str = "",
    graphs: Sequence[GraphBuilder] = (),
) -> Sequence[Tensor]:
    """Add a layer named after the node; ``part`` names an auxiliary one. Attributes that are None are left out."""
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    name = f"{node.name}/{part}" if part else node.name
    values = {key: value for key, value in (attrs or {}).items() if value is not None}
    return builder.add(kind, given, values, name=name, graphs=graphs)


def present(inputs: Inputs, index: int) -> Tensor | None:
    """An optional input."""
    return inputs[index] if index < len(inputs) else None


def required(inputs: Inputs, index: int, name: str) -> Tensor:
    """An input that must be there."""
    tensor = present(inputs, index)
    if tensor is None:
        raise ParseError(f"input {index} ({name}) is missing")
    return tensor


def _value(node: SourceNode, name: str, wanted: str) -> Any:
    if name not in node.attrs:
        raise ParseError(f"attribute {name!r} ({wanted}) is missing")
    return node.attrs[name]


def _refuse(node: SourceNode, name: str, wanted: str) -> ParseError:
    found = node.attrs[name]
    shown = repr(found) if isinstance(found, (int, float, str, tuple)) else type(found).__name__
    return ParseError(f"attribute {name!r} must be {wanted}, not {shown[:80]}")


def integer(node: SourceNode, name: str, default: int | None = None) -> int:
    """An integer attribute; one without a default must be there."""
    if default is not None and name not in node.attrs:
        return default
    value = _value(node, name, "an integer")
    if not isinstance(value, int):
        raise _refuse(node, name, "an integer")
    return value


def optional_integer(node: SourceNode, name: str) -> int | None:
    """An integer attribute, None when it is left out."""
    return integer(node, name) if name in node.attrs else None


def flag(node: SourceNode, name: str, default: bool = False) -> bool:
    """An integer attribute that means yes or no."""
    return integer(node, name, int(default)) != 0


def number(node: SourceNode, name: str, default: float | None = None) -> float:
    """A float attribute; one without a default must be there."""
    if default is not None and name not in node.attrs:
        return default
    value = _value(node, name, "a number")
    if not isinstance(value, (int, float)):
        raise _refuse(node, name, "a number")
    return float(value)


def optional_number(node: SourceNode, name: str) -> float | None:
    """A float attribute, None when it is left out."""
    return number(node, name) if name in node.attrs else None


def text(node: SourceNode, name: str, default: str | None = None, choices: Sequence[str] = ()) -> str:
    """A string attribute, one of ``choices`` where those are given."""
    value = node.attrs.get(name, default)
    if value is None:
        raise ParseError(f"attribute {name!r} (a string) is missing")
    if not isinstance(value, str):
        raise _refuse(node, name, "a string")
    if choices and value not in choices:
        raise ParseError(f"attribute {name!r} is {value[:80]!r}, not one of {', '.join(choices)}")
    return value


def integers(node: SourceNode, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """A list of integers; one without a default must be there."""
    if default is not None and name not in node.attrs:
        return tuple(default)
    value = _value(node, name, "integers")
    if not isinstance(value, (tuple, list)) or not all(isinstance(v, int) for v in value):
        raise _refuse(node, name, "integers")
    return tuple(value)


def optional_integers(node: SourceNode, name: str) -> tuple[int, ...] | None:
    """A list of integers, None when it is left out."""
    return integers(node, name) if name in node.attrs else None


def numbers(node: SourceNode, name: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
    """A list of floats; one without a default must be there."""
    if default is not None and name not in node.attrs:
        return tuple(default)
    value = _value(node, name, "numbers")
    if not isinstance(value, (tuple, list)) or not all(isinstance(v, (int, float)) for v in value):
        raise _refuse(node, name, "numbers")
    return tuple(float(v) for v in value)


def texts(node: SourceNode, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
    """A list of strings; one without a default must be there."""
    if default is not None and name not in node.attrs:
        return tuple(default)
    value = _value(node, name, "strings")
    if not isinstance(value, (tuple, list)) or not all(isinstance(v, str) for v in value):
        raise _refuse(node, name, "strings")
    return tuple(value)


def array(node: SourceNode, name: str) -> Array:
    """A tensor attribute, which must be there."""
    value = _value(node, name, "a tensor")
    if not isinstance(value, np.ndarray):
        raise _refuse(node, name, "a tensor")
    return value


def constant_integers(tensor: Tensor, name: str) -> tuple[int, ...]:
    """The integers in an input that layers take as an attribute."""
    values = tensor.constant if tensor.constant is not None else tensor.info.value
    if values is None or any(isinstance(v, Dim) for v in (values.flat if values.dtype == object else ())):
        raise ParseError(
            f"input {name} ({tensor.name!r}) must be a constant; it is computed while the network runs. "
            "Simplify the model so that it is known"
        )
    flat = values.reshape(-1).tolist()
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in flat):
        raise ParseError(f"input {name} ({tensor.name!r}) must hold integers, not {tensor.info.dtype}")
    return tuple(flat)


def is_known(tensor: Tensor) -> bool:
    """Whether every element of an input of integers is known while the network is built."""
    if tensor.constant is not None:
        return True
    value = tensor.info.value
    return value is not None and not any(isinstance(v, Dim) for v in value.flat)


def axes_vector(builder: GraphBuilder, node: SourceNode, axes: Tensor) -> Tensor:
    """An input of axes that a layer reads when it runs, as a vector: models give single ones as scalars."""
    if axes.info.rank:
        return axes
    return emit(builder, node, "Reshape", [axes, shape_constant([1])], part="axes")[0]


def constant_number(tensor: Tensor) -> float | None:
    """The value of a constant of one element; None when it is not one."""
    values = tensor.constant if tensor.constant is not None else tensor.info.value
    if values is None or values.size != 1 or isinstance(values.reshape(-1)[0], Dim):
        return None
    if not (is_float(tensor.info.dtype) or "int" in tensor.info.dtype):
        return None
    return float(values.reshape(-1)[0])


def is_absent(tensor: Tensor | None) -> bool:
    """Left out, in either of ONNX's ways: no input, or an empty tensor (Resize's scales and roi)."""
    return tensor is None or tensor.info.shape == (0,)


def shape_constant(values: Sequence[int]) -> Array:
    """A host vector of integers, as shape inputs take them."""
    if any(not -(2**63) <= v < 2**63 for v in values):
        raise ParseError(f"{[str(v) for v in values]} do not fit 64 bits")
    return np.array(values, np.int64)


def normalized_axis(axis: int, rank: int, *, end: bool = False) -> int:
    """A non-negative axis; ``end`` allows one past the last."""
    limit = rank + (1 if end else 0)
    if not -rank <= axis < limit:
        raise ParseError(f"axis {axis} is out of range for an input of rank {rank}")
    return axis + rank if axis < 0 else axis
