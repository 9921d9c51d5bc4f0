"""Object files by what they are made from, so that equal code is compiled once.

A build asks for the same code again at another batch, for another export of the model, or at a problem that differs in
what code does not depend on: of eight builds of one network, 55 to 65 % of the compiling was of code known before.

The variable ``TENONRT_LLVM_OBJECTS`` names a folder that builds share and keep. What lies there is run as code: it
should be no one else's to write. Without it, each process remembers what it compiled last.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

FOLDER = "TENONRT_LLVM_OBJECTS"
_DIGEST_BYTES = 20
_REMEMBERED = 128  # object files of about 30 KB


class KnownObjects:
    """What this process compiled last, and the folder where there is one."""

    def __init__(self) -> None:
        self._last: dict[bytes, bytes] = {}

    def get(self, parts: tuple[str, ...], compile: Callable[[], bytes]) -> bytes:
        """The object file of these parts (target, options, IR), which ``compile`` makes where none is known.

        `OSError` names the variable where its folder cannot be used.
        """
        key = _key(parts)
        found = self._last.pop(key, None)
        if found is None:
            named = os.environ.get(FOLDER)
            found = _from_folder(Path(named), key, compile) if named else compile()
        self._last[key] = found  # the last of them
        if len(self._last) > _REMEMBERED:
            self._last.pop(next(iter(self._last)), None)  # another thread may have been first
        return found


def _key(parts: tuple[str, ...]) -> bytes:
    digest = hashlib.blake2b(_compiler().encode(), digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(b"\0" + part.encode())
    return digest.digest()


@lru_cache
def _compiler() -> str:
    """llvmlite's version, which is one of LLVM's too: it brings its own."""
    return version("llvmlite")


def _from_folder(folder: Path, key: bytes, compile: Callable[[], bytes]) -> bytes:
    path = folder / key.hex()
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    except OSError as error:
        raise _unusable(folder, error) from error
    code = kept[_DIGEST_BYTES:]
    if kept[:_DIGEST_BYTES] == _checksum(code):
        return code
    code = compile()
    try:
        _write(path, _checksum(code) + code)
    except OSError as error:
        raise _unusable(folder, error) from error
    return code


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, since other processes read it meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent)
    try:
        with open(number, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _checksum(code: bytes) -> bytes:
    return hashlib.blake2b(code, digest_size=_DIGEST_BYTES).digest()


def _unusable(folder: Path, error: OSError) -> OSError:
    return OSError(f"{FOLDER} names {str(folder)!r}, which cannot keep object files: {error}; name another or unset it")
