"""A network file, text or binary, as a list of layers of the current format, those for testing only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from tenonrt.contracts import ParseError

from tenonrt_parser_caffe.blob import Blob
from tenonrt_parser_caffe.fill import Unknown, fill
from tenonrt_parser_caffe.schema import new
from tenonrt_parser_caffe.text import read_text
from tenonrt_parser_caffe.upgrade import upgrade
from tenonrt_parser_caffe.wire import Net, read_blob, read_net

_TEST = 1  # Phase


@dataclass(frozen=True)
class LayerSpec:
    """One layer. ``message``: its LayerParameter; ``extra``: fields that the schema does not know, as plain values."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    message: Any
    extra: dict[str, Any]


@dataclass
class CaffeNetwork:
    """What a network file says. ``weights``: blobs in the file itself, by layer; ``unknown``: fields passed over."""

    name: str
    layers: list[LayerSpec]
    weights: dict[str, list[Blob]]
    unknown: list[str] = field(default_factory=list)


def is_text(head: bytes) -> bool:
    """Whether a file that begins with these bytes is text: it has no control characters but white space."""
    return not any(byte < 9 or 13 < byte < 32 for byte in head)


def read_network(path: Path) -> CaffeNetwork:
    """Read a prototxt, or the network that a caffemodel holds; `ParseError` names line, byte or layer."""
    data = _bytes(path)
    unknown, weights = Unknown(), {}
    if is_text(data[:4096]):
        message = _read_text(data, unknown)
    else:
        message, binary = _read_binary(data)
        weights = _by_layer(message, binary)
    weights |= _embedded(message)
    before = len(message.layer) or len(message.layers)
    message = upgrade(message)
    added = max(len(message.layer) - before, 0)  # the inputs, in front
    layers = []
    for index, layer in enumerate(message.layer):
        if _included(layer, message.state):
            extra = unknown.of_layers.get(f"layer[{index - added}].", {})
            layers.append(LayerSpec(layer.name, layer.type, tuple(layer.bottom), tuple(layer.top), layer, extra))
    return CaffeNetwork(message.name, layers, weights, unknown.places)


def read_weights(path: Path) -> dict[str, list[Blob]]:
    """The blobs of a caffemodel by the name of their layer."""
    message, binary = _read_binary(_bytes(path))
    return _by_layer(message, binary)


def read_mean(path: Path) -> Blob:
    """The blob of a binaryproto."""
    data = _bytes(path)
    return read_blob(data, 0, len(data))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror or error}") from error


def _read_text(data: bytes, unknown: Unknown) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ParseError(f"byte {error.start}: the text is not UTF-8") from error
    message = new("NetParameter")
    fill(message, read_text(text), unknown)
    return message


def _read_binary(data: bytes) -> tuple[Any, Net]:
    binary = read_net(data)
    message = new("NetParameter")
    try:
        message.ParseFromString(binary.rest)
    except DecodeError as error:
        raise ParseError(f"a field of the network cannot be read: {error}") from error
    return message, binary


def _by_layer(message: Any, binary: Net) -> dict[str, list[Blob]]:
    named = [
        (layer.name or layer.layer.name, blobs) for layer, blobs in zip(message.layers, binary.layers, strict=True)
    ]
    named += [(layer.name, blobs) for layer, blobs in zip(message.layer, binary.layer, strict=True)]
    return {name: blobs for name, blobs in named if blobs}


def _embedded(message: Any) -> dict[str, list[Blob]]:
    """Blobs that a text file holds."""
    found = {}
    for layer in (*message.layers, *message.layer):
        if len(layer.blobs):
            encoded = [blob.SerializeToString() for blob in layer.blobs]
            found[layer.name] = [read_blob(data, 0, len(data)) for data in encoded]
    return found


def _included(layer: Any, state: Any) -> bool:
    """Whether a layer is part of the network in phase TEST, with the level and the stages of the network's own state.

    As in Caffe a layer's own ``phase`` does not decide: trained models carry TRAIN everywhere.
    """
    if len(layer.include) and len(layer.exclude):
        raise ParseError(f"layer {layer.name!r} has rules to include and to exclude it; Caffe allows one kind")
    if len(layer.include):
        return any(_matches(rule, state) for rule in layer.include)
    return not any(_matches(rule, state) for rule in layer.exclude)


def _matches(rule: Any, state: Any) -> bool:
    stages = set(state.stage)
    return not (
        (rule.HasField("phase") and rule.phase != _TEST)
        or (rule.HasField("min_level") and state.level < rule.min_level)
        or (rule.HasField("max_level") and state.level > rule.max_level)
        or not stages.issuperset(rule.stage)
        or stages.intersection(rule.not_stage)
    )
