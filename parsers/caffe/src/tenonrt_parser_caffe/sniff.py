"""Recognise Caffe networks, text or binary, by the beginning of a file, without protobuf."""

from __future__ import annotations

import re

from tenonrt.contracts import ParseError

_COMMENT = re.compile(r"#[^\n]*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
# A field that only Caffe's networks begin a block with, and two that its layers have.
_BLOCK = re.compile(r"^\s*layers?\s*:?\s*\{", re.MULTILINE)
_IN_LAYER = re.compile(r"\b(?:top|bottom|type|name)\s*:")
# Of NetParameter, by number: the wire types that a field has in files.
_TOP = {1: 2, 2: 2, 3: 2, 4: 0, 5: 0, 6: 2, 7: 0, 8: 2, 100: 2, **dict.fromkeys(range(11, 21), 0)}
_LAYER = {100: {1: 2, 2: 2, 3: 2, 4: 2, 10: 0}, 2: {1: 2, 2: 2, 3: 2, 4: 2, 5: 0}}


def is_caffe(head: bytes) -> bool:
    """Whether a file that begins with these bytes is surely a Caffe network."""
    from tenonrt_parser_caffe.network import is_text

    return _is_prototxt(head) if is_text(head) else _is_binary(head)


def _is_prototxt(head: bytes) -> bool:
    text = _STRING.sub('""', _COMMENT.sub("", head.decode("utf-8", "ignore")))
    found = _BLOCK.search(text)
    if found is not None:
        return _IN_LAYER.search(text, found.end()) is not None
    # Long lists of inputs may come first.
    return re.match(r'\s*(?:name\s*:\s*""\s*)?input\s*:', text) is not None and "input_" in text


def _is_binary(head: bytes) -> bool:
    """Walk the fields at the top; the first layer must begin as layers do."""
    from tenonrt_parser_caffe.wire import tag_at

    position = 0
    try:
        while position < len(head):
            number, kind, payload, end = tag_at(head, position)
            if _TOP.get(number) != kind:
                return False
            if number in _LAYER:
                inner, inner_kind, _, _ = tag_at(head, payload)
                return end > payload and _LAYER[number].get(inner) == inner_kind
            if number == 1 and not head[payload:end].decode("utf-8", "strict").isprintable():
                return False
            position = end
    except (ParseError, UnicodeDecodeError):
        return False
    return False
