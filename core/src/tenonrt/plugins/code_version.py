"""The version of a plugin's code, by which builders keep times and verdicts: edited code is tried and timed anew.

The version in the metadata says nothing of an edit in a checkout, and nobody raises it for each. The code itself does:
the files of the packages that the distribution's entry points name, and the versions of what it requires.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from tenonrt.plugins.discovery import Entry, scan
from tenonrt.plugins.metadata import headers_of

# Of larger files, which are libraries, the size and both ends: linkers write a digest of the whole near the beginning.
_WHOLE_BYTES, _END_BYTES = 1 << 20, 1 << 16


def code_version(entry: Entry) -> str:
    """``0.1.0+3f2a91c04b7d``; the version alone where there are no files to read, as of code in an archive.

    Files are read once a process, when the first build asks; nothing is imported but namespaces.
    """
    digest = _digest(entry.distribution, entry.value)
    return f"{entry.version}+{digest}" if digest else entry.version


@cache  # entry points are known and few
def _digest(distribution: str, value: str) -> str:
    offered = {e.value for entries in scan().values() for e in entries if e.distribution == distribution}
    return _digest_of(distribution, frozenset(v.partition(":")[0].strip() for v in (*offered, value)))


@cache
def _digest_of(distribution: str, modules: frozenset[str]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    found = False
    for name, path in _files({place for module in modules for place in _places(module)}):
        found = True
        digest.update(f"{name}\0".encode())
        _add_content(digest, path)
    for line in _versions_required(distribution):
        digest.update(f"{line}\0".encode())
    return digest.hexdigest() if found else ""


def _places(module: str) -> list[Path]:
    """The folder of the outermost package of a module that is no namespace, or its file."""
    words = module.split(".")
    for count in range(1, len(words) + 1):
        try:
            spec = importlib.util.find_spec(".".join(words[:count]))
        except (ImportError, ValueError, AttributeError):  # gone, or made without a file by a test
            return []
        if spec is None:
            return []
        if spec.submodule_search_locations is None:
            return [Path(spec.origin)] if spec.origin else []
        if spec.origin is not None:  # a namespace has none
            return [Path(place) for place in spec.submodule_search_locations]
    return []


def _files(places: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Every file below, with its name from there on, in an order that is the same on every machine."""
    for place in sorted(places):
        if place.is_file():
            yield place.name, place
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                path = Path(folder, name)
                yield f"{place.name}/{path.relative_to(place).as_posix()}", path


def _add_content(digest: hashlib.blake2b, path: Path) -> None:
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
        else:
            digest.update(file.read(_END_BYTES))
            file.seek(size - _END_BYTES)
            digest.update(file.read(_END_BYTES))


def _versions_required(distribution: str) -> Sequence[str]:
    """``llvmlite 0.50.0`` for each requirement that is installed: a compiler's new version is new code too."""
    own = headers_of(distribution)
    found = []
    for line in own.requires if own is not None else ():
        end = next((i for i, c in enumerate(line) if not (c.isalnum() or c in "-_.")), len(line))
        required = headers_of(line[:end])
        if required is not None:
            found.append(f"{required.name} {required.version}")
    return sorted(set(found))
