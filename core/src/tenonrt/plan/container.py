"""The plan file: a fixed preamble, a readable header, then sections whose arrays start at multiples of 64 bytes.

bytes 0-7    magic "TENONRT\\n"
bytes 8-11   format version, little endian
bytes 12-19  length of the header
bytes 20-51  BLAKE2b-256 of the header
header       JSON: `PlanHeader` and the table of sections (name, offset, length, hash)
sections     "program", "code" (msgpack), "weights" (raw arrays, memory-mapped when loaded)
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tenonrt.errors import NotAPlanError, PlanCorruptError, PlanError, PlanVersionError
from tenonrt.files import written_whole
from tenonrt.layout import ALIGNMENT
from tenonrt.plan.program import PlanHeader

try:  # hashlib loads OpenSSL, which takes longer than all else that a small plan's loading does
    from _blake2 import blake2b
except ImportError:  # another Python than CPython
    from hashlib import blake2b

MAGIC = b"TENONRT\n"
FORMAT_VERSION = 1
_PREAMBLE = struct.Struct("<8sIQ32s")
_MAX_HEADER = 64 << 20


class Section(msgspec.Struct, frozen=True):
    """Where a section lies in the file."""

    name: str
    offset: int
    length: int
    hash: str


class FileHeader(msgspec.Struct, frozen=True):
    """The JSON header of a plan file."""

    plan: PlanHeader
    sections: tuple[Section, ...]


def digest(data: bytes | memoryview) -> str:
    """BLAKE2b-256 in hexadecimal."""
    return blake2b(data, digest_size=32).hexdigest()


Parts = Sequence[bytes | memoryview]


def write_plan(path: Path, header: PlanHeader, sections: Sequence[tuple[str, Parts]]) -> None:
    """Write a plan next to ``path`` and move it into place, so that no half-written plan is ever seen.

    Every part of a section starts at a multiple of 64 bytes.
    """
    encoded = msgspec.json.encode(FileHeader(header, _table(sections)))
    try:
        with written_whole(path) as file:
            file.write(_PREAMBLE.pack(MAGIC, FORMAT_VERSION, len(encoded), bytes.fromhex(digest(encoded))))
            file.write(encoded)
            at = _PREAMBLE.size + len(encoded)  # counted: a pipe cannot tell
            for _, parts in sections:
                at += file.write(b"\0" * (-at % ALIGNMENT))  # an empty section has a place too
                for part in parts:
                    at += file.write(b"\0" * (-at % ALIGNMENT))
                    at += file.write(part)
    except OSError as error:
        raise PlanError(f"{path} cannot be written: {error}") from error


def _table(sections: Sequence[tuple[str, Parts]]) -> tuple[Section, ...]:
    """Offsets count from the first multiple of 64 after the header, whose own length they must not depend on."""
    table, offset = [], 0
    for name, parts in sections:
        hasher, length = blake2b(digest_size=32), 0
        for part in parts:
            gap = -length % ALIGNMENT
            hasher.update(b"\0" * gap)
            hasher.update(part)
            length += gap + memoryview(part).nbytes
        table.append(Section(name, offset, length, hasher.hexdigest()))
        offset += -(-length // ALIGNMENT) * ALIGNMENT
    return tuple(table)


class PlanFile:
    """An open plan: the header read and checked, the sections mapped read-only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < _PREAMBLE.size:
                    raise NotAPlanError(f"{path} is not a plan: it has only {size} bytes")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # no file can have such a name
            raise PlanError(f"{path} cannot be read: {error}") from error
        self._view = memoryview(self._map)
        self.header, start = self._read_header()
        self._start = -(-start // ALIGNMENT) * ALIGNMENT
        self._sections = {section.name: section for section in self.header.sections}
        for section in self.header.sections:
            if section.offset % ALIGNMENT:
                raise PlanCorruptError(f"{path}: section {section.name!r} begins at an odd byte; build the plan again")
            if section.offset < 0 or section.length < 0 or self._start + section.offset + section.length > size:
                raise PlanCorruptError(
                    f"{path} is cut short: section {section.name!r} ends at byte "
                    f"{self._start + section.offset + section.length}, the file has {size}; copy it again"
                )

    def _read_header(self) -> tuple[FileHeader, int]:
        magic, version, length, hash = _PREAMBLE.unpack_from(self._view)
        if magic != MAGIC:
            raise NotAPlanError(f"{self.path} is not a plan: it begins with {bytes(magic)!r}, not {MAGIC!r}")
        if version > FORMAT_VERSION:
            raise PlanVersionError(
                f"{self.path} has plan format {version}; this version reads up to {FORMAT_VERSION}. "
                f"Update tenonrt-core, or build the plan again with this version."
            )
        if version < 1:
            raise PlanCorruptError(f"{self.path} is damaged: bytes 8 to 12 claim plan format {version}; copy it again")
        end = _PREAMBLE.size + length
        if length > _MAX_HEADER or end > len(self._view):
            raise PlanCorruptError(f"{self.path} is damaged: its header claims {length} bytes; copy it again")
        encoded = self._view[_PREAMBLE.size : end]
        if digest(encoded) != hash.hex():
            raise PlanCorruptError(f"{self.path} is damaged: the header (bytes {_PREAMBLE.size} to {end}) has changed")
        try:
            return msgspec.json.decode(encoded, type=FileHeader), end
        except (ValueError, RecursionError) as error:
            raise PlanCorruptError(f"{self.path}: the header cannot be understood: {error}") from error

    def section(self, name: str, verify: bool = True) -> memoryview:
        """The bytes of a section; `PlanCorruptError` when its hash is asked for and differs."""
        section = self._sections.get(name)
        if section is None:
            raise PlanCorruptError(f"{self.path} has no section {name!r}")
        begin = self._start + section.offset
        data = self._view[begin : begin + section.length]
        if verify and digest(data) != section.hash:
            raise PlanCorruptError(
                f"{self.path} is damaged: section {name!r} (bytes {begin} to {begin + section.length}) has changed; "
                f"copy it again or build it anew"
            )
        return data
