"""What installed distributions say of themselves, read from their folders.

Most of the time of loading a small plan went into importing a parser of mail headers and asking every distribution. Of
the files that `Core metadata` and `Entry points` of the Python Packaging User Guide describe, three headers and the
groups of TenonRT are read here. Where a path is no plain folder (a zip file, an egg, an importer of its own), the
library is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

PREFIX = "tenonrt."
_GROUP = f"[{PREFIX}".encode()
_SUFFIXES = (".dist-info", ".egg-info")


class EntryPoint(NamedTuple):
    """A name that a distribution gives one of its objects, ``value``: ``module:object``."""

    group: str
    name: str
    value: str

    def load(self) -> Any:
        """Import the object."""
        module, colon, attributes = (part.strip() for part in self.value.partition("[")[0].partition(":"))
        path = attributes.split(".") if colon else []
        if not all(word.isidentifier() for word in (*module.split("."), *path)):
            raise ValueError(f"{self.value!r} is no `module:object`")
        loaded: Any = import_module(module)
        for attribute in path:
            loaded = getattr(loaded, attribute)
        return loaded


class Headers(NamedTuple):
    """name and version of a distribution, and its requirements as they are written."""

    name: str
    version: str
    requires: Sequence[str]


class InstalledFolder(NamedTuple):
    """The folder of a distribution's metadata. name: the folder's, ``NAME-VERSION.dist-info``."""

    path: str
    name: str

    @property
    def key(self) -> str:
        """The distribution's name as Python compares it, told by the folder's."""
        return normal(self.name.rpartition(".")[0].partition("-")[0])

    def groups(self) -> bytes:
        """Its file of entry points, empty where none is of TenonRT's groups."""
        try:
            data = _read(f"{self.path}/entry_points.txt")
        except (FileNotFoundError, NotADirectoryError):
            return b""
        return data if _GROUP in data else b""

    def headers(self) -> Headers:
        """`OSError` where there is no such file, `ValueError` where it names no distribution."""
        single: dict[str, str] = {}
        requires = []
        text = _read(f"{self.path}/{'METADATA' if self.path.endswith('.dist-info') else 'PKG-INFO'}").decode()
        for line in text.splitlines():
            if not line.strip():  # the description follows
                break
            name, _, value = line.partition(":")
            if name.lower() == "requires-dist":
                requires.append(value.strip())
            elif not line[0].isspace():
                single.setdefault(name.lower(), value.strip())
        if "name" not in single:
            raise ValueError(f"{self.path} has no Name")
        return Headers(single["name"], single.get("version", ""), requires)


class AskedDistribution(NamedTuple):
    """A distribution that only importlib.metadata can read."""

    found: Any

    @property
    def path(self) -> str:
        return str(self.found.locate_file(""))

    @property
    def key(self) -> str:
        return normal(self.headers().name)

    def groups(self) -> bytes:
        points = [p for p in self.found.entry_points if p.group.startswith(PREFIX)]
        return "\n".join(f"[{p.group}]\n{p.name} = {p.value}" for p in points).encode()

    def headers(self) -> Headers:
        name = self.found.metadata["Name"]
        if name is None:
            raise ValueError(f"{self.path} has no Name")
        return Headers(name, self.found.version or "", self.found.requires or ())


Distribution = InstalledFolder | AskedDistribution


@lru_cache(maxsize=4)
def distributions(path: tuple[str, ...]) -> Sequence[Distribution]:
    """All that are installed on a path (`sys.path`), in its order; looked for once, until the cache is cleared."""
    if not any(folder.lower().endswith(".egg") for folder in path) and not any(map(_finds_others, sys.meta_path)):
        try:
            return [found for folder in path for found in _folders(folder)]
        except NotADirectoryError:
            pass  # a zip file
    from importlib_metadata import distributions as ask

    return [AskedDistribution(found) for found in ask(path=list(path))]


def headers_of(name: str) -> Headers | None:
    """Those of the first distribution of a name on the path; None where it is not installed."""
    found = _by_name(tuple(sys.path)).get(normal(name))
    if found is not None:
        return found.headers()
    from importlib_metadata import PackageNotFoundError, distribution

    try:
        return AskedDistribution(distribution(name)).headers()
    except PackageNotFoundError:
        return None


def normal(name: str) -> str:
    """Names of distributions compare without regard to case and to which of ``-_.`` separates their words."""
    name = name.lower().replace("_", "-").replace(".", "-")
    while "--" in name:
        name = name.replace("--", "-")
    return name


@lru_cache(maxsize=4)
def _by_name(path: tuple[str, ...]) -> dict[str, InstalledFolder]:
    """Folders by the names that they bear."""
    found: dict[str, InstalledFolder] = {}
    for distribution in distributions(path):
        if isinstance(distribution, InstalledFolder):
            found.setdefault(distribution.key, distribution)
    return found


def _finds_others(finder: Any) -> bool:
    """Whether an importer has distributions of its own; Python's looks into the path, as importlib_metadata's does."""
    home = finder.__module__ if isinstance(finder, type) else type(finder).__module__
    known = home in ("_frozen_importlib_external", "importlib_metadata")
    return hasattr(finder, "find_distributions") and not known


def _folders(folder: str) -> list[InstalledFolder]:
    try:
        with os.scandir(folder or ".") as inside:
            return [InstalledFolder(f.path, f.name) for f in inside if f.name.lower().endswith(_SUFFIXES)]
    except NotADirectoryError:
        raise
    except OSError:  # there is no such folder, or it is not for us to read
        return []


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - making a Path of each takes longer than reading it
        return file.read()


def group_names(data: bytes) -> set[str]:
    """Which groups of TenonRT's a file of entry points has, whatever else is in it."""
    parts = data.split(_GROUP)[1:]
    return {PREFIX + part.partition(b"]")[0].decode(errors="replace") for part in parts}


def entry_points(data: bytes) -> Iterator[EntryPoint]:
    """Those of TenonRT's groups. `ValueError` for a line that is none, `UnicodeDecodeError` for other than text."""
    group, text = "", data.decode()
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
        elif group.startswith(PREFIX):
            name, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"{line!r} in [{group}] is no `name = module:object`")
            yield EntryPoint(group, name.strip(), value.strip())
