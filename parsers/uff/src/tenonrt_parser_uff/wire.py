"""Protobuf messages of formats whose libraries are gone or heavy, made from their facts: names, numbers and types.

Every schema lives in a `DescriptorPool` of its own, so that an installed TensorFlow, which registers the same names,
is never in the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tenonrt.contracts import ParseError

MAX_FILE = 2**31 - 1  # of protobuf

# message -> its fields, one "number name type" each. A type is a scalar of protobuf, "Enum" for any enumeration (kept
# as a number, as unknown values are), a message of this schema, "[type]" for a repeated one, or "key:type" for a map.
# "oneof" after the type puts the field in the message's only oneof.
Schema = Mapping[str, str]

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13,
    "enum": 5,
}  # fmt: skip
_MESSAGE, _REPEATED, _OPTIONAL = 11, 3, 1


def message_class(package: str, schema: Schema, name: str) -> Any:
    """The class of one message of a schema."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for message, fields in schema.items():
        descriptor = file.message_type.add(name=message)
        for line in fields.strip().splitlines():
            _add_field(descriptor, package, *line.split())
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


def _add_field(descriptor: Any, package: str, number: str, name: str, type: str, choice: str | None = None) -> None:
    field: FieldDescriptorProto = descriptor.field.add(name=name, number=int(number), label=_OPTIONAL)
    if choice is not None:
        if not descriptor.oneof_decl:
            descriptor.oneof_decl.add(name=choice)
        field.oneof_index = 0
    key, _, value = type.partition(":")
    if value:
        entry = descriptor.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "1", "key", key)
        _add_field(entry, package, "2", "value", value)
        field.label, field.type = _REPEATED, _MESSAGE
        field.type_name = f".{package}.{descriptor.name}.{entry.name}"
        return
    if type.startswith("["):
        field.label, type = _REPEATED, type[1:-1]
    if type in _SCALARS:
        field.type = _SCALARS[type]
    else:
        field.type, field.type_name = _MESSAGE, f".{package}.{type}"


def read_file(path: Path) -> bytes:
    """The bytes of a model file; `ParseError` when there are none or more than protobuf decodes."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ParseError(f"has {size} bytes, more than protobuf's {MAX_FILE}")
        return path.read_bytes()
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror}") from error


def decode(kind: Any, data: bytes, format: str) -> Any:
    """A message of a class; `ParseError` names the byte where the outermost fields stop making sense."""
    if not data:
        raise ParseError(f"is empty; {format} was expected")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise ParseError(f"is not {format}, cut short or damaged ({len(data)} bytes): {_damage(data)}") from error


def _damage(data: bytes) -> str:
    position = 0
    while position < len(data):
        end = field_end(data, position)
        if end is None or end > len(data):
            return f"the field at byte {position} is where reading stops"
        last, position = position, end
    return f"a field within one that ends at byte {position} is broken (the last begins at byte {last})"


def field_end(data: bytes, position: int) -> int | None:
    """Where a field that begins at a position ends; None where no field can begin. May be past the data."""
    tag, position = varint(data, position)
    if not tag >> 3:
        return None
    if tag & 7 == 0:
        return varint(data, position)[1]
    if tag & 7 == 2:
        length, position = varint(data, position)
        return position + length
    return position + {1: 8, 5: 4}[tag & 7] if tag & 7 in (1, 5) else None


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position after it, past the data when it does not end."""
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, position + count + 1
    return value, len(data) + 1
