"""Object files by what they are made from, so that equal code is compiled once.

A build asks for the same code again at another batch, for another export of the model, or at a problem that differs in
what code does not depend on: of eight builds of one network, 55 to 65 % of the compiling was of code known before.

The variable ``TENONRT_LLVM_OBJECTS`` names a folder that builds share, of a bounded size. What lies there is run as
code: it should be no one else's to write. Without it, each process remembers what it compiled last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from tenonrt_kernel_llvm.object_folder import DIGEST_BYTES, ObjectFolder

FOLDER = "TENONRT_LLVM_OBJECTS"
_REMEMBERED = 128  # object files of about 30 KB


class KnownObjects:
    """What this process compiled last, and the folder where there is one."""

    def __init__(self) -> None:
        self._last: dict[bytes, bytes] = {}
        self._folder: ObjectFolder | None = None

    def get(self, parts: tuple[str, ...], compile: Callable[[], bytes]) -> bytes:
        """The object file of these parts (target, options, IR), which ``compile`` makes where none is known.

        `OSError` names the variable where its folder cannot be used.
        """
        key = _key(parts)
        found = self._last.pop(key, None)
        if found is None:
            named = os.environ.get(FOLDER)
            found = self._shared(Path(named), key, compile) if named else compile()
        self._last[key] = found  # the last of them
        if len(self._last) > _REMEMBERED:
            self._last.pop(next(iter(self._last)), None)  # another thread may have been first
        return found

    def _shared(self, path: Path, key: bytes, compile: Callable[[], bytes]) -> bytes:
        if self._folder is None or self._folder.path != path:
            self._folder = ObjectFolder(path)
        try:
            return self._folder.get(key, compile)
        except OSError as error:
            raise OSError(
                f"{FOLDER} names {str(path)!r}, which cannot keep object files: {error}; name another or unset it"
            ) from error


def _key(parts: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(_compiler().encode(), digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(b"\0" + part.encode())
    return digest.digest()


@lru_cache
def _compiler() -> str:
    """llvmlite's version, which is one of LLVM's too: it brings its own."""
    return version("llvmlite")
