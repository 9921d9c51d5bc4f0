"""Recognise the beginnings of frozen graphs without protobuf."""

from __future__ import annotations

import re

from tenonrt_parser_uff.sniff import fields

_OPERATION = re.compile(rb"[A-Z_][A-Za-z0-9_>]{0,63}")


def is_graph_def(head: bytes) -> bool:
    """The first field is a node: a name, an operation, then inputs, a device and attributes."""
    number, value = next(fields(head), (0, 0))
    if number == 4:  # versions, which some writers put first
        number, value = next((field for field in fields(head) if field[0] != 4), (0, 0))
    return number == 1 and isinstance(value, bytes) and _is_node(value)


def _is_node(value: bytes) -> bool:
    found = []
    for number, part in fields(value):
        if number not in (1, 2, 3, 4, 5, 6) or not isinstance(part, bytes):
            return False
        found.append((number, part))
    if [number for number, _ in found[:2]] != [1, 2]:
        return False
    return 0 < len(found[0][1]) < 4096 and _OPERATION.fullmatch(found[1][1]) is not None


def is_saved_model(head: bytes) -> bool:
    """A SavedModel begins with the version of its schema, then has a meta graph."""
    found = [field for field, _ in zip(fields(head), range(2), strict=False)]
    return [number for number, _ in found] == [1, 2] and found[0][1] == 1 and isinstance(found[1][1], bytes)
