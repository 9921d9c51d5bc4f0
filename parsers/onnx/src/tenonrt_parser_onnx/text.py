"""Strings of a model file."""

from __future__ import annotations

from tenonrt.contracts import ParseError


def text(value: str | bytes, what: str) -> str:
    """A string as ``str``. protobuf hands out ``bytes`` where a string field is not UTF-8."""
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"{what} is not UTF-8: byte {error.start} of {value[:40]!r}") from None
