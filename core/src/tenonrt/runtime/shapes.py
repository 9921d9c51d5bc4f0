"""Binding symbols to the sizes that a run brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tenonrt.dims import Dim, Dimension, Symbol, evaluate, substitute, symbols
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
    for dimension, size in zip(type.shape, shape, strict=True):
        _solve(name, dimension, size, values)
    for axis, (dimension, size) in enumerate(zip(type.shape, shape, strict=True)):
        expected = substitute(dimension, values)
        if isinstance(expected, int) and expected != size:
            raise ExecutionError(f"{name} has shape {tuple(shape)}; axis {axis} of {type} must be {expected}")


def _solve(name: str, dimension: Dimension, size: int, values: dict[str, int]) -> None:
    """Learn the only unknown symbol of a dimension that grows evenly with it: ``2 * n + 1``.

    Two values tell slope and beginning; the caller compares, so that a dimension that does not grow evenly is refused.
    """
    unknown = {s for s in symbols(substitute(dimension, values)) if s.name not in values}
    if len(unknown) != 1:
        return
    (found,) = unknown
    first, second = (evaluate(dimension, {**values, found.name: found.lower + i}) for i in (0, 1))
    if second != first and (size - first) % (second - first) == 0:
        solution = found.lower + (size - first) // (second - first)
        _check_range(name, found, solution)
        values[found.name] = solution


def _lone_symbol(dimension: int | Dim) -> Symbol | None:
    found = next(symbols(dimension), None)
    return found if found is not None and dimension == found.renamed(found.name) else None


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
