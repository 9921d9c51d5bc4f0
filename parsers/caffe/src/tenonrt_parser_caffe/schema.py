"""The messages of Caffe, from our own description of them, in a descriptor pool that no other library sees.

`caffe.schema` holds names, numbers and types. A pool of our own keeps them apart from the `caffe.proto` that another
package of the process may have loaded.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "tenonrt_caffe"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE,
    "bool": _Field.TYPE_BOOL,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def new(message: str) -> Any:
    """An empty message of this name."""
    return _class(message)()


@cache
def _class(message: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{message}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file((files(__package__) / "caffe.schema").read_text(encoding="utf-8")))
    return pool


def _file(text: str) -> descriptor_pb2.FileDescriptorProto:
    """A file descriptor from the text of a schema."""
    made = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    for line in text.splitlines():
        words = line.split()
        if not words or words[0] == "#":
            continue
        if words[0] == "message":
            message = made.message_type.add(name=words[1])
        elif words[0] == "enum":
            values = message.enum_type.add(name=words[1]).value
            for pair in words[2:]:
                name, _, number = pair.partition("=")
                values.add(name=name, number=int(number))
        else:
            _add_field(message, words)
    _qualify(made)
    return made


def _add_field(message: Any, words: list[str]) -> None:
    name, number, kind, *default = words
    repeated = kind[-1] in "*+"
    field = message.field.add(
        name=name, number=int(number), label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    )
    if kind.endswith("+"):
        field.options.packed = True
    kind = kind.rstrip("*+")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind
    if default:
        field.default_value = default[1]


def _qualify(made: Any) -> None:
    """Say of every field of a named type where that type stands."""
    for message in made.message_type:
        own = {enum.name for enum in message.enum_type}
        for field in message.field:
            if not field.type_name:
                continue
            if field.type_name in own:
                field.type, field.type_name = _Field.TYPE_ENUM, f".{_PACKAGE}.{message.name}.{field.type_name}"
            else:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{field.type_name}"
