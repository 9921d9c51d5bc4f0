"""Binary networks, read off the wire: blobs stay where they lie in the file, the rest becomes a small message.

protobuf would copy every weight into its own memory first. Only the tags are walked here, so that a file costs its own
size. Fields whose numbers mean different things in BVLC Caffe, NVCaffe, SSD and TensorRT are told apart on the way and
get the numbers that `caffe.schema` has for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tenonrt.contracts import ParseError

from tenonrt_parser_caffe.blob import Blob, Segment

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}

# Of LayerParameter: (number, wire type) in a file -> the schema's number. NVCaffe has enumerations where BVLC Caffe has
# messages; TensorRT's own parser numbers SSD's messages from 8781; Faster R-CNN's Caffe has ROI pooling at 8266711.
_RENUMBERED = {
    **{(number, VARINT): 90000 + number for number in range(145, 151)},
    (8781, BYTES): 202, (8782, BYTES): 204, (8783, BYTES): 206, (8784, BYTES): 203, (8787, BYTES): 148,
    (8266711, BYTES): 8785,
}  # fmt: skip
_LAYER, _V1_LAYER = 100, 2  # of NetParameter
_BLOBS, _V1_BLOBS, _V0_BLOBS, _V0_LAYER = 7, 6, 50, 1


@dataclass(frozen=True)
class Field:
    """One field: its number and wire type, and where tag and payload lie; ``value`` is that of a varint."""

    number: int
    kind: int
    start: int
    payload: int
    end: int
    value: int = 0


@dataclass
class Net:
    """A binary NetParameter: ``rest`` is the message without blobs, blobs are listed per layer in order."""

    rest: bytes
    layer: list[list[Blob]] = field(default_factory=list)
    layers: list[list[Blob]] = field(default_factory=list)  # of the V1 format


def read_net(data: bytes) -> Net:
    """Take a binary NetParameter apart; `ParseError` names the byte."""
    rest = bytearray()
    net = Net(b"")
    for top in fields(data, 0, len(data)):
        if top.kind == BYTES and top.number in {_LAYER, _V1_LAYER}:
            blobs: list[Blob] = []
            v1 = top.number == _V1_LAYER
            inner = _layer(data, top, blobs, _V1_BLOBS if v1 else _BLOBS, v1)
            rest += _tag(top.number, BYTES) + _varint(len(inner)) + inner
            (net.layers if v1 else net.layer).append(blobs)
        else:
            rest += data[top.start : top.end]
    net.rest = bytes(rest)
    return net


def _layer(data: bytes, whole: Field, blobs: list[Blob], number: int, v1: bool) -> bytes:
    """A layer without its blobs, which are appended to the list."""
    rest = bytearray()
    for inner in fields(data, whole.payload, whole.end):
        if inner.number == number and inner.kind == BYTES:
            blobs.append(read_blob(data, inner.payload, inner.end))
        elif v1 and inner.number == _V0_LAYER and inner.kind == BYTES:
            oldest = _layer(data, inner, blobs, _V0_BLOBS, False)
            rest += _tag(_V0_LAYER, BYTES) + _varint(len(oldest)) + oldest
        else:
            renumbered = _RENUMBERED.get((inner.number, inner.kind)) if number == _BLOBS else None
            if renumbered is None:
                rest += data[inner.start : inner.end]
            else:
                rest += _tag(renumbered, inner.kind) + data[_after_tag(data, inner) : inner.end]
    return bytes(rest)


def read_blob(data: bytes, start: int, end: int) -> Blob:
    """A BlobProto between two bytes of a file. Its numbers are not looked at yet."""
    blob = Blob(data, start)
    position = start
    while position < end:
        if data[position] == _UNPACKED_FLOAT:
            stop = _unpacked_run(data, position, end)
            blob.segments.append(Segment("float32", position + 1, (stop - position) // 5, 5))
            position = stop
            continue
        found = _field(data, position, end)
        _store(blob, data, found)
        position = found.end
    return blob


_UNPACKED_FLOAT = 5 << 3 | FIXED32


def _unpacked_run(data: bytes, start: int, end: int) -> int:
    """Where a run of unpacked floats (tag and four bytes each) ends: old files hold millions of them."""
    unit, count, limit = bytes([_UNPACKED_FLOAT]), 16, (end - start) // 5
    found = 0
    while found < limit:
        count = min(count, limit - found)
        tags = data[start + 5 * found : start + 5 * (found + count) : 5]
        same = len(tags) - len(tags.lstrip(unit))
        found += same
        if same < count:
            break
        count *= 2
    if not found:
        raise ParseError(f"byte {start}: a float of the blob is cut off")
    return start + 5 * found


def _store(blob: Blob, data: bytes, found: Field) -> None:
    length = found.end - found.payload
    match found.number, found.kind:
        case ((1 | 2 | 3 | 4), 0):
            blob.legacy[found.number - 1] = found.value
        case 5, 2:
            blob.segments.append(Segment("float32", found.payload, length // 4, 4, length % 4))
        case 8, 2:
            blob.segments.append(Segment("float64", found.payload, length // 8, 8, length % 8))
        case 8, 1:
            blob.segments.append(Segment("float64", found.payload, 1, 8))
        case 7, 2:
            blob.shape = _dimensions(data, found)
        case 10, 0:
            blob.raw_type = found.value
        case 12, 2:
            blob.raw = (found.payload, length)


def _dimensions(data: bytes, whole: Field) -> list[int]:
    found: list[int] = []
    for inner in fields(data, whole.payload, whole.end):
        if inner.number == 1 and inner.kind == VARINT:
            found.append(_signed(inner.value))
        elif inner.number == 1 and inner.kind == BYTES:
            position = inner.payload
            while position < inner.end:
                value, position = _read_varint(data, position, inner.end)
                found.append(_signed(value))
        if len(found) > 32:  # Caffe's own limit on axes
            raise ParseError(f"byte {whole.start}: the shape of a blob has more than 32 axes")
    return found


def fields(data: bytes, start: int, end: int) -> Iterator[Field]:
    """The fields of a message between two bytes; `ParseError` names the byte where it breaks off."""
    position = start
    while position < end:
        found = _field(data, position, end)
        yield found
        position = found.end


def _field(data: bytes, position: int, end: int) -> Field:
    tag, payload = _read_varint(data, position, end)
    number, kind = tag >> 3, tag & 7
    value = 0
    if number == 0 or number >= 1 << 29:
        raise ParseError(f"byte {position}: {tag} is no tag of a field")
    if kind == VARINT:
        value, stop = _read_varint(data, payload, end)
    elif kind == BYTES:
        length, payload = _read_varint(data, payload, end)
        stop = payload + length
    elif kind in _WIDTHS:
        stop = payload + _WIDTHS[kind]
    else:
        raise ParseError(f"byte {position}: field {number} has wire type {kind}, which networks do not use")
    if stop > end:
        raise ParseError(f"byte {position}: field {number} ends {stop - end} bytes after what holds it")
    return Field(number, kind, position, payload, stop, value)


def _after_tag(data: bytes, found: Field) -> int:
    return _read_varint(data, found.start, found.end)[1]


def _read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
    raise ParseError(f"byte {position}: a number {'is longer than 10 bytes' if shift >= 70 else 'is cut off'}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _tag(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def tag_at(data: bytes, position: int) -> tuple[int, int, int, int]:
    """Number, wire type, payload and end of the field at a byte; the end may lie beyond the data."""
    tag, payload = _read_varint(data, position, len(data))
    kind = tag & 7
    if kind == BYTES:
        length, payload = _read_varint(data, payload, len(data))
        return tag >> 3, kind, payload, payload + length
    if kind == VARINT:
        return tag >> 3, kind, payload, _read_varint(data, payload, len(data))[1]
    return tag >> 3, kind, payload, payload + _WIDTHS.get(kind, 0)
