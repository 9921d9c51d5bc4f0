"""What a field of a UFF node holds, as plain values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tenonrt.contracts import ParseError

from tenonrt_parser_uff.orders import Order
from tenonrt_parser_uff.schema import DTYPES, MAIN_ORDER, UNKNOWN_DTYPE

_BYTES_LITERAL = re.compile(r"""b(['"])(.*)\1""", re.DOTALL)


class References:
    """The data that fields refer to by name: weights and orders."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def resolve(self, value: Any) -> Any:
        """The data at the end of a chain of references; `ParseError` for an unknown name and for a circle."""
        seen: dict[str, None] = {}
        while value.WhichOneof("data_oneof") == "ref":
            name = value.ref
            if name in seen:
                raise ParseError(f"refers to itself: {' -> '.join([*list(seen)[:8], name])}")
            if name not in self._data:
                raise ParseError(f"refers to {name!r}, which is not in the file's referenced_data")
            seen[name] = None
            value = self._data[name]
        return value


def read_field(value: Any, references: References) -> Any:
    """None where nothing is set. Weights stay bytes; an element type is its name; orders are tuples of numbers."""
    value = references.resolve(value)
    kind = value.WhichOneof("data_oneof")
    return None if kind is None else _READERS[kind](getattr(value, kind))


def clean(text: str) -> str:
    """Converters for Python 3 wrote the ``repr`` of byte strings: ``b'SAME'`` means ``SAME``."""
    match = _BYTES_LITERAL.fullmatch(text)
    return match[2] if match else text


class Dtype(str):
    """An element type in a field, told from a string that reads the same."""

    __slots__ = ()


class UnknownDtype(Dtype):
    """Stands in a field for an element type without a name, so that only its use is an error."""

    __slots__ = ()


def _dtype(number: int) -> str:
    name = DTYPES.get(number)
    if name is None:
        return UnknownDtype("unknown" if number == UNKNOWN_DTYPE else f"number {number}")
    return Dtype(name)


def _order(orders: Any) -> Order:
    if MAIN_ORDER not in orders.orders:  # reading a map by index would add the key
        raise ParseError(f"has an order without the key {MAIN_ORDER}; its keys are {sorted(orders.orders)[:8]}")
    return tuple(orders.orders[MAIN_ORDER].val)


_READERS: dict[str, Callable[[Any], Any]] = {
    "s": clean,
    "s_list": lambda value: tuple(clean(text) for text in value.val),
    "d": float,
    "d_list": lambda value: tuple(value.val),
    "b": bool,
    "b_list": lambda value: tuple(value.val),
    "i": int,
    "i_list": lambda value: tuple(value.val),
    "blob": bytes,
    "dtype": _dtype,
    "dtype_list": lambda value: tuple(_dtype(number) for number in value.val),
    "dim_orders": _order,
    "dim_orders_list": lambda value: tuple(_order(orders) for orders in value.val),
}
