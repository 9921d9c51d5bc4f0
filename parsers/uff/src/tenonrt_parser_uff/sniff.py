"""Recognise the beginnings of UFF files without protobuf.

The fields of the head are walked as far as it reaches; one that the format cannot have there, and it is something else.
"""

from __future__ import annotations

from collections.abc import Iterator

_TEXT_LIMIT = 4096


def is_uff(head: bytes) -> bool:
    """Versions 1 and 1, then descriptors, graphs and data; the graph or data must be seen to begin."""
    found: dict[int, bytes | int] = {}
    for number, value in fields(head):
        if number not in (1, 2, 3, 4, 5, 100) or isinstance(value, int) != (number <= 2):
            return False
        if number <= 2 and value != 1:
            return False
        if number == 3 and not _is_named(value):
            return False
        if number == 4 and not _is_graph(value):
            return False
        found[number] = value
    return found.get(1) == 1 and (4 in found or 5 in found) and 2 in found


def _is_named(value: bytes | int) -> bool:
    """A message that begins with an id."""
    first = next(fields(value), None) if isinstance(value, bytes) else None
    return first is not None and first[0] == 1 and _is_text(first[1])


def _is_graph(value: bytes | int) -> bool:
    """A graph's id, or its first node, which begins with an id too."""
    first = next(fields(value), None) if isinstance(value, bytes) else None
    return first is not None and ((first[0] == 1 and _is_text(first[1])) or (first[0] == 2 and _is_named(first[1])))


def _is_text(value: bytes | int) -> bool:
    return isinstance(value, bytes) and 0 < len(value) < _TEXT_LIMIT and value.isascii() and b"\0" not in value


def fields(data: bytes | int) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values; the last value may be cut short. Ends with (0, 0) where no field can be."""
    position = 0
    while isinstance(data, bytes) and position < len(data):
        tag, after = _varint(data, position)
        if after > len(data):
            return
        if tag & 7 == 0 and tag >> 3:
            value, position = _varint(data, after)
            yield tag >> 3, value
        elif tag & 7 == 2 and tag >> 3:
            length, start = _varint(data, after)
            position = start + length
            yield tag >> 3, data[start:position]
        else:
            yield 0, 0
            return


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, position + count + 1
    return value, len(data) + 1
