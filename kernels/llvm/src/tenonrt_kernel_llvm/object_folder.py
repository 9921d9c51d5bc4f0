"""A folder of object files that processes share: whole files only, and no more of them than it may hold.

Files have the names of what they are made from. One that is used is touched, and when there are more bytes than
allowed, those untouched for the longest go. A process that wants one of them at that moment has read it or compiles it
again; files of other names are not ours and stay.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

DIGEST_BYTES = 20
# Object files are of about 30 KB: these are some 17,000, ten times what all networks of the tests and benchmarks have.
MOST_BYTES = 512 << 20
# What is left when files were removed, so that not every file written after that means to look at all again.
_KEPT = 0.875
# A process looks at all files when it writes its first one, and after so many.
_LOOKS_AFTER = 256
# A file that is being written is younger than this, or its process has ended.
_ABANDONED_SECONDS = 3600.0
_OURS, _UNFINISHED = re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}"), re.compile(rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}-.*")


class ObjectFolder:
    """`OSError` of any of its methods is the file system's."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = path
        self._most_bytes = most_bytes
        self._written = 0

    def get(self, key: bytes, compile: Callable[[], bytes]) -> bytes:
        """The object file that is kept under a key, else the one that ``compile`` makes, which is kept from now on."""
        path = self.path / key.hex()
        try:
            kept = path.read_bytes()
        except FileNotFoundError:
            kept = b""
        with suppress(OSError):  # removed meanwhile, or in a folder that may only be read
            os.utime(path)
        code = kept[DIGEST_BYTES:]
        if kept[:DIGEST_BYTES] == _checksum(code):
            return code
        code = compile()
        _write(path, _checksum(code) + code)
        if self._written % _LOOKS_AFTER == 0:
            self.shrink()
        self._written += 1
        return code

    def shrink(self) -> None:
        """Remove what was not used for the longest, where there is more than may be, and what was never finished."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        excess = total - int(_KEPT * self._most_bytes) if total > self._most_bytes else 0
        for _, size, path in files:
            if excess <= 0:
                break
            _remove(path)
            excess -= size

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """When each of our files was last used, its bytes, and where it is; those that were left unfinished go."""
        abandoned = time.time() - _ABANDONED_SECONDS
        with os.scandir(self.path) as entries:
            for entry in entries:
                finished = _OURS.fullmatch(entry.name)
                if not finished and not _UNFINISHED.fullmatch(entry.name):
                    continue
                with suppress(FileNotFoundError):  # another process was faster
                    found = entry.stat(follow_symlinks=False)
                    if finished:
                        yield found.st_mtime, found.st_size, entry.path
                    elif found.st_mtime < abandoned:
                        _remove(entry.path)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        Path(path).unlink()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, since other processes read it meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}-")
    try:
        with open(number, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _checksum(code: bytes) -> bytes:
    return hashlib.blake2b(code, digest_size=DIGEST_BYTES).digest()
