"""Recognise ONNX models by the protobuf fields at the beginning of a file, without protobuf.

A file is walked as far as its head reaches; one field that an ONNX model cannot have there, and it is something else.
"""

from __future__ import annotations

import codecs

VARINT, TEXT, OPAQUE = "varint", "text", "opaque"

# onnx.proto: message -> field number -> what it holds (another message by its name).
FIELDS: dict[str, dict[int, str]] = {
    "model": {1: VARINT, 2: TEXT, 3: TEXT, 4: TEXT, 5: VARINT, 6: TEXT, 7: "graph", 8: "opset", 14: "entry",
              20: OPAQUE, 25: OPAQUE, 26: OPAQUE},
    "graph": {1: "node", 2: TEXT, 5: OPAQUE, 10: TEXT, 11: "value", 12: "value", 13: "value", 14: OPAQUE,
              15: OPAQUE, 16: "entry"},
    "node": {1: TEXT, 2: TEXT, 3: TEXT, 4: TEXT, 5: OPAQUE, 6: TEXT, 7: TEXT, 8: TEXT, 9: "entry", 10: OPAQUE},
    "value": {1: TEXT, 2: OPAQUE, 3: TEXT, 4: "entry"},
    "opset": {1: TEXT, 2: VARINT},
    "entry": {1: TEXT, 2: TEXT},
}  # fmt: skip

MAX_IR_VERSION = 255  # 14 at the time of writing; counts up by one a year


class _ForeignError(Exception):
    """The bytes cannot be an ONNX model."""


class _HeadEndsError(Exception):
    """The walk came to the end of the bytes at hand."""


def is_onnx(head: bytes) -> bool:
    """Whether a file that begins with these bytes is surely an ONNX model.

    At least three fields must be recognised, the IR version among them, or six without it.
    """
    walk = _Walk(head)
    try:
        walk.message("model", 0, None)
    except _ForeignError:
        return False
    except _HeadEndsError:
        pass
    return walk.fields >= (3 if walk.ir_version else 6)


class _Walk:
    """A walk over the fields of a message; counts those it recognised."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.fields = 0
        self.ir_version = 0

    def message(self, name: str, position: int, end: int | None) -> None:
        while position != end:
            if end is None and position == len(self.head):
                return
            position = self.field(name, position, end)

    def field(self, message: str, position: int, end: int | None) -> int:
        tag, position = self.varint(position)
        holds = FIELDS[message].get(tag >> 3)
        if holds is None or tag & 7 != (0 if holds == VARINT else 2):
            raise _ForeignError
        value, position = self.varint(position)
        if holds == VARINT:
            self.check_version(message, tag >> 3, value)
            stop = position
        else:
            stop = position + value
        if end is not None and stop > end:
            raise _ForeignError
        if holds == TEXT:
            self.check_text(position, stop)
        self.fields += 1
        if holds in FIELDS:
            self.message(holds, position, stop)
        if stop > len(self.head):
            raise _HeadEndsError
        return stop

    def varint(self, position: int) -> tuple[int, int]:
        value = 0
        for count in range(10):
            if position + count >= len(self.head):
                raise _HeadEndsError
            byte = self.head[position + count]
            value |= (byte & 127) << 7 * count
            if byte < 128:
                return value, position + count + 1
        raise _ForeignError

    def check_version(self, message: str, number: int, value: int) -> None:
        if message == "model" and number == 1:
            if not 1 <= value <= MAX_IR_VERSION:
                raise _ForeignError
            self.ir_version = value

    def check_text(self, start: int, stop: int) -> None:
        visible = self.head[start:stop]
        try:
            codecs.getincrementaldecoder("utf-8")().decode(visible, final=stop <= len(self.head))
        except UnicodeDecodeError:
            raise _ForeignError from None
        if b"\0" in visible:
            raise _ForeignError
