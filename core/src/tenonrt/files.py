"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path`` that is moved into its place at the end of the block, or removed when the block raises.

    A link stays one, and what it points to is replaced. What is no file, a pipe or ``/dev/null``, is written to: it can
    neither be half written nor may it be replaced. `OSError` also for paths that no file can have.
    """
    try:
        target = Path(os.path.realpath(path))
        special = target.exists() and not target.is_file() and not target.is_dir()
    except ValueError as error:
        raise OSError(f"no file can be called so: {error}") from error
    if special:
        with target.open("wb") as file:
            yield file
        return
    # Not tempfile: its files are for their owner alone, and so would be this one. Not all of the
    # name, which may be as long as names can be.
    temporary = target.parent / f".{target.name[:40]}.{os.urandom(6).hex()}.partial"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
