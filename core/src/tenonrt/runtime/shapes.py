"""Binding symbols to the sizes that a run brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenonrt.dims import Dim, Symbol, evaluate, substitute, symbol, symbols
from tenonrt.errors import ExecutionError
from tenonrt.types import TensorType


def bind_shape(name: str, type: TensorType, shape: Sequence[int], values: dict[str, int]) -> None:
    """Match a shape with a type, adding the symbols it tells to ``values``; `ExecutionError` names the tensor."""
    if len(shape) != type.rank:
        raise ExecutionError(f"{name} has shape {tuple(shape)}; {type} has {type.rank} dimensions")
    for dimension, size in zip(type.shape, shape, strict=True):
        lone = _lone_symbol(dimension)
        if lone is not None and lone.name not in values:
            _check_range(name, lone, size)
            values[lone.name] = size
    for axis, (dimension, size) in enumerate(zip(type.shape, shape, strict=True)):
        expected = substitute(dimension, values)
        if isinstance(expected, int) and expected != size:
            raise ExecutionError(f"{name} has shape {tuple(shape)}; axis {axis} of {type} must be {expected}")


def _lone_symbol(dimension: int | Dim) -> Symbol | None:
    found = next(symbols(dimension), None)
    return found if found is not None and dimension == symbol(found.name, found.lower, found.upper) else None


def _check_range(name: str, found: Symbol, size: int) -> None:
    if size < found.lower or (found.upper is not None and size > found.upper):
        limits = f"at least {found.lower}" if found.upper is None else f"{found.lower} to {found.upper}"
        raise ExecutionError(f"{name}: {found.name} is {size}; this engine was built for {limits}")


def known(type: TensorType, values: Mapping[str, int]) -> bool:
    """Whether every symbol of a type has a value."""
    return type.static or type.symbol_names() <= values.keys()


def physical_shape(type: TensorType, values: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in memory with every symbol's value."""
    return tuple(evaluate(d, values) for d in type.physical_shape)
