"""Shared libraries that other distributions bring in their folders, where the system's loader does not look."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes


def load_library(variable: str, patterns: Sequence[str], places: Sequence[str]) -> ctypes.CDLL | None:
    """The first library that loads: the environment variable's, then those of distributions, then
    ``places``; None where none does.

    patterns: globs below the folders of Python's path, of which the last in alphabetical order comes first.
    """
    import ctypes  # few plugins need it, and all import this module

    for place in _places(variable, patterns, places):
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    return None


def _places(variable: str, patterns: Sequence[str], places: Sequence[str]) -> Iterator[str]:
    import site

    if given := os.environ.get(variable):
        yield given
    for folder in (*sys.path, *site.getsitepackages()):
        for pattern in patterns:
            yield from (str(found) for found in sorted(Path(folder or ".").glob(pattern), reverse=True))
    yield from places
