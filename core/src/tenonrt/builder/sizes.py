"""Sizes to try and to time at, where a network leaves them open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tenonrt.dims import Dim, Symbol, evaluate, symbols
from tenonrt.types import TensorType

_DOUBLINGS = 10


def with_elements(types: Iterable[TensorType], values: Mapping[str, int]) -> dict[str, int]:
    """The values of symbols, doubled within their ranges until every tensor has elements.

    A window without padding does not fit into a single pixel, which is what an open size is tried at otherwise. Where
    larger values do not help, the values given.
    """
    open_ = {d for type in types for d in type.shape if isinstance(d, Dim)}
    found = dict(values)
    for _ in range(_DOUBLINGS):
        small = [d for d in open_ if evaluate(d, found) < 1]
        grown = {s.name: _doubled(s, found[s.name]) for d in small for s in symbols(d)}
        if grown.items() <= found.items():
            break
        found |= grown
    return found if all(evaluate(d, found) >= 1 for d in open_) else dict(values)


def _doubled(symbol: Symbol, value: int) -> int:
    wanted = max(1, 2 * value)
    return wanted if symbol.upper is None else max(value, min(wanted, symbol.upper))
