"""Text trees into messages: what the schema knows is checked and stored, what it does not know is noted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from tenonrt.contracts import ParseError

from tenonrt_parser_caffe.text import Tree, Word, number

_BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_IGNORED = "Ignored"  # the schema's message for parameters that have no part in inference


@dataclass
class Unknown:
    """Fields that the schema does not know: where each stands, and the values of those directly in a layer."""

    places: list[str] = field(default_factory=list)
    of_layers: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the layer's path, "layer[3]."


def fill(message: Any, tree: Tree, unknown: Unknown, path: str = "") -> None:
    """Store a tree's fields in a message; `ParseError` names the line and the field."""
    descriptor = message.DESCRIPTOR
    strays: list[Any] = []
    for entry in tree.entries:
        known = descriptor.fields_by_name.get(entry.name)
        where = f"{path}{entry.name}"
        if known is None:
            if descriptor.name != _IGNORED:
                unknown.places.append(f"{where} (line {entry.line})")
                strays.append(entry)
        elif known.message_type is not None:
            _nested(message, known, entry, unknown, where)
        else:
            _scalar(message, known, entry, where)
    if strays and descriptor.name == "LayerParameter":
        unknown.of_layers[path] = Tree(tuple(strays)).plain()


def _nested(message: Any, known: FieldDescriptor, entry: Any, unknown: Unknown, where: str) -> None:
    if not isinstance(entry.value, Tree):
        raise ParseError(f"line {entry.line}: {where} is {entry.value.text!r}; it is a message, in braces")
    inner = getattr(message, known.name)
    _check_once(message, known, entry, where)
    if _repeated(known):
        inner = inner.add()
        where = f"{where}[{len(getattr(message, known.name)) - 1}]"
    else:
        inner.SetInParent()
    fill(inner, entry.value, unknown, f"{where}.")


def _scalar(message: Any, known: FieldDescriptor, entry: Any, where: str) -> None:
    if isinstance(entry.value, Tree):
        raise ParseError(f"line {entry.line}: {where} is a message; it must be one value")
    _check_once(message, known, entry, where)
    try:
        value = _converted(known, entry.value)
        if _repeated(known):
            getattr(message, known.name).append(value)
        else:
            setattr(message, known.name, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise ParseError(f"line {entry.line}: {where} is {entry.value.text[:60]!r}: {error}") from error


def _check_once(message: Any, known: FieldDescriptor, entry: Any, where: str) -> None:
    """As protobuf's own reader, and so Caffe, refuses a second value: which one was meant cannot be told."""
    if not _repeated(known) and message.HasField(known.name):
        raise ParseError(f"line {entry.line}: {where} is given a second time; it takes one value")


def _converted(known: FieldDescriptor, word: Word) -> Any:
    """A scalar in the type of its field; `ValueError` when it is none of that type."""
    if known.enum_type is not None:
        values = known.enum_type.values_by_name
        if word.kind == "name" and word.text in values:
            return values[word.text].number
        if word.kind == "number" and number(word.text) in known.enum_type.values_by_number:
            return int(number(word.text))
        raise ValueError(f"it is one of {', '.join(values)}")
    if known.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if word.kind != "string":
            raise ValueError("it is text, in quotes")
        bytes_wanted = known.type == FieldDescriptor.TYPE_BYTES
        return word.text.encode("utf-8", "surrogateescape") if bytes_wanted else word.text
    if known.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if word.text.lower() not in _BOOLEANS or word.kind == "string":
            raise ValueError("it is true or false")
        return _BOOLEANS[word.text.lower()]
    if word.kind == "string":
        raise ValueError("it is a number")
    found = number(word.text)
    if known.cpp_type in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return float(found)
    if isinstance(found, float):
        raise ValueError("it is a whole number of at most 64 bits")
    return found


def _repeated(known: FieldDescriptor) -> bool:
    return bool(known.is_repeated)
