"""A decoded model file: what its graphs share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenonrt.contracts import ParseError

from tenonrt_parser_onnx.external import ExternalFiles
from tenonrt_parser_onnx.sniff import FIELDS
from tenonrt_parser_onnx.text import text

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto

OLDEST_OPSET = 1  # where an operator changed, the mappings look at the version
NEWEST_OPSET = 28  # the newest whose changes the mappings follow
MAX_FILE = 2**31 - 1  # of protobuf

FunctionKey = tuple[str, str, str]  # domain, name, overload


@dataclass(frozen=True)
class Model:
    """One file: its main graph, operator-set versions by domain ("" is the standard one) and functions."""

    path: Path
    graph: GraphProto
    versions: dict[str, int]
    functions: dict[FunctionKey, FunctionProto]
    files: ExternalFiles


def standard_domain(domain: str) -> str:
    """The two spellings of the standard domain made one."""
    return "" if domain == "ai.onnx" else domain


def function_key(node: NodeProto) -> FunctionKey:
    """What a node calls if it calls a function."""
    domain, name = text(node.domain, "a node's domain"), text(node.op_type, "a node's operator")
    return standard_domain(domain), name, text(node.overload, "a node's overload")


def read_model(path: Path) -> Model:
    """Decode a file; `ParseError` when it is not ONNX or of an opset outside those supported."""
    proto = _decode(path)
    if not proto.HasField("graph"):
        raise ParseError("is not an ONNX model: it has no graph (field 7)")
    versions = read_versions(proto.opset_import)
    if "" in versions and not OLDEST_OPSET <= versions[""] <= NEWEST_OPSET:
        raise ParseError(
            f"uses opset {versions['']} of the standard operators; {OLDEST_OPSET} to {NEWEST_OPSET} are supported. "
            "Convert it with onnx.version_converter or export it again"
        )
    return Model(path, proto.graph, versions, _functions(proto), ExternalFiles(path))


def read_versions(imports: Iterable[OperatorSetIdProto]) -> dict[str, int]:
    """Operator-set versions by domain; `ParseError` when two entries disagree."""
    versions: dict[str, int] = {}
    for entry in imports:
        domain = standard_domain(text(entry.domain, "opset_import: a domain"))
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ParseError(f"opset_import gives domain {domain!r} versions {versions[domain]} and {entry.version}")
    return versions


def _decode(path: Path) -> ModelProto:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ParseError(f"has {size} bytes, more than protobuf's {MAX_FILE}; save the weights as external data")
        data = path.read_bytes()
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror}") from error
    if not data:
        raise ParseError("is empty")
    try:
        model: ModelProto = ModelProto.FromString(data)
    except DecodeError as error:
        raise ParseError(f"is not ONNX, cut short or damaged ({len(data)} bytes): {error}; {_damage(data)}") from error
    return model


def _damage(data: bytes) -> str:
    """Where the model's outermost fields stop making sense."""
    position = 0
    while position < len(data):
        end = _field_end(data, position)
        if end is None or end > len(data):
            break
        position = end
    return (
        f"the field at byte {position} is where reading stops" if position < len(data) else "a nested field is broken"
    )


def _field_end(data: bytes, position: int) -> int | None:
    """Where a field of the model ends; None where there is none."""
    tag, position = _varint(data, position)
    if tag >> 3 not in FIELDS["model"]:
        return None
    if tag & 7 == 0:
        return _varint(data, position)[1]
    if tag & 7 == 2:
        length, position = _varint(data, position)
        return position + length
    return None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, position + count + 1
    return value, len(data) + 1


def _functions(proto: ModelProto) -> dict[FunctionKey, FunctionProto]:
    functions: dict[FunctionKey, FunctionProto] = {}
    for function in proto.functions:
        key = (
            standard_domain(text(function.domain, "functions: a domain")),
            text(function.name, "functions: a name"),
            text(function.overload, "functions: an overload"),
        )
        if key in functions:
            raise ParseError(f"function {key[1]!r} of domain {key[0]!r} is defined twice")
        functions[key] = function
    return functions
