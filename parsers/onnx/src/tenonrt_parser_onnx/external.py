"""Tensor data in files beside the model."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from tenonrt.contracts import ParseError


class ExternalFiles:
    """The data files of one model, each mapped read-only once however many tensors it holds."""

    def __init__(self, model: Path) -> None:
        # A download cache keeps models as links into one folder: a link to a neighbour of the real model is no escape.
        self._folders = (model.parent.resolve(), model.resolve().parent)
        self._folder = model.parent
        self._maps: dict[str, memoryview] = {}

    def read(self, entries: Mapping[str, str], nbytes: int) -> memoryview:
        """The bytes of a tensor of ``nbytes``; `ParseError` unless the entries name exactly those in a file here."""
        location = entries.get("location", "")
        offset = _count(entries, "offset", 0)
        length = _count(entries, "length", nbytes)
        if length != nbytes:
            raise ParseError(f"external data has length {length}, the tensor's dims need {nbytes} bytes")
        data = self._maps.get(location)
        if data is None:
            data = self._maps[location] = self._map(location)
        if offset + nbytes > len(data):
            raise ParseError(
                f"external data {location!r} has {len(data)} bytes, {nbytes} are expected at offset {offset}"
            )
        return data[offset : offset + nbytes]

    def _map(self, location: str) -> memoryview:
        path = self._resolve(location)
        try:
            with path.open("rb") as file:
                empty = path.stat().st_size == 0  # mmap refuses empty files
                return memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise ParseError(f"external data file {location!r} cannot be read: {error.strerror}") from error

    def _resolve(self, location: str) -> Path:
        parts = PurePosixPath(location).parts + PureWindowsPath(location).parts
        if not location or "\0" in location or ".." in parts or PurePosixPath(location).is_absolute():
            raise ParseError(f"external data location {location!r} is not a path below the model's folder")
        if PureWindowsPath(location).anchor:
            raise ParseError(f"external data location {location!r} is not a path below the model's folder")
        try:
            path = (self._folder / location).resolve()
            regular = path.is_file()
        except (OSError, RuntimeError) as error:  # too long a name, a loop of links
            raise ParseError(f"external data location {location!r} is not usable: {error}") from error
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise ParseError(f"external data location {location!r} leads out of the model's folder, to {path}")
        if not regular:
            raise ParseError(f"external data file {location!r} is missing in {self._folder} or not a regular file")
        return path


def _count(entries: Mapping[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise ParseError(f"external data {key} {text[:40]!r} is not a number of bytes")
    return int(text)
