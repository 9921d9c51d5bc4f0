"""The timing cache: one SQLite file that concurrent builds share; SQLite's locking and journal keep it whole."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tenonrt.errors import BuildError
from tenonrt.problem import Code, NativeCode, Problem, Tactic

TUNER_VERSION = 6
_LOCK_SECONDS = 60.0  # builds that share a file take turns; none holds it for longer than one entry

_LONGEST = 1e9  # seconds that no tactic takes: infinity is damage
_SEAL = 16  # bytes of the hash that is kept with a code


class CacheEntry(msgspec.Struct, frozen=True):
    """What is known of a tactic at a problem on a device: refused with a reason, or its error and maybe its time.

    timeless: it cannot be timed, as it makes its own outputs. native: its code runs in the device's own program.
    """

    why: str = ""
    error: Annotated[float, msgspec.Meta(ge=0)] | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST)] | None = None
    timeless: bool = False
    native: bool = False


class Subject(msgspec.Struct, frozen=True):
    """What an entry is about, for people and for pruning; the key alone answers builds."""

    device: str  # the fingerprint, as JSON
    problem: str
    kernel: str
    version: str
    tactic: str
    tuner: int


class _Compiled(msgspec.Struct, frozen=True):
    """The parts of a `Code` that the problem and the tactic do not tell."""

    blob: bytes
    info: dict[str, Any]
    native: NativeCode | None
    workspace: int | None = None


class TimingCache:
    """``path`` None keeps the entries in memory, for one build. A file that cannot be written to is read."""

    def __init__(self, path: Path | str | None, fingerprint: Mapping[str, str]) -> None:
        self._path = None if path is None else Path(path)
        self._device = msgspec.json.encode(dict(sorted(fingerprint.items())))
        self.hits = 0
        self.misses = 0
        self._forgets = self._path is not None and _is_read_only(self._path)
        with self._guarded():
            self._database = self._connected()
        with self._guarded(), suppress(sqlite3.OperationalError):  # busy: another build is setting it at this moment
            # Measured with four writers: 22 ms an entry with a rollback journal, under 3 ms with a write-ahead log.
            self._database.execute("PRAGMA journal_mode = WAL")
        with self._guarded():
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS timings (key TEXT PRIMARY KEY, entry BLOB NOT NULL)")
            self._database.execute("CREATE TABLE IF NOT EXISTS codes (key TEXT PRIMARY KEY, code BLOB NOT NULL)")
            self._database.execute("CREATE TABLE IF NOT EXISTS subjects (key TEXT PRIMARY KEY, subject BLOB NOT NULL)")
            self._database.commit()
        self._subjects: dict[str, Subject] = {}  # of the keys made so far

    def _connected(self) -> sqlite3.Connection:
        if self._path is None:
            return sqlite3.connect(":memory:")
        if self._forgets:
            return _copied(self._path)
        return sqlite3.connect(str(self._path), timeout=_LOCK_SECONDS)

    def _tell(self) -> None:
        """Say once that the file does not change."""
        if self._forgets:
            self._forgets = False
            warnings.warn(
                f"the timing cache {self._path} cannot be written to: what this build finds out is not kept",
                stacklevel=2,
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever is wrong with the file is an error that names it."""
        try:
            yield
        except (sqlite3.Error, ValueError) as error:
            raise BuildError(
                f"the timing cache {self._path} cannot be used: {error}; name another file or remove it"
            ) from error

    def key(self, problem: str, kernel: str, version: str, tactic: str) -> str:
        parts = (problem, kernel, version, tactic, str(TUNER_VERSION))
        digest = hashlib.blake2b(self._device, digest_size=16)
        for part in parts:
            digest.update(b"\0" + part.encode())
        key = digest.hexdigest()
        self._subjects[key] = Subject(self._device.decode(), problem, kernel, version, tactic, TUNER_VERSION)
        return key

    def get(self, key: str) -> CacheEntry | None:
        with self._guarded():
            row = self._database.execute("SELECT entry FROM timings WHERE key = ?", (key,)).fetchone()
            entry = None if row is None else msgspec.msgpack.decode(row[0], type=CacheEntry)
        self.hits += entry is not None
        self.misses += entry is None
        return entry

    def put(self, key: str, entry: CacheEntry) -> None:
        self._tell()
        with self._guarded(), self._database:
            self._database.execute("INSERT OR REPLACE INTO timings VALUES (?, ?)", (key, msgspec.msgpack.encode(entry)))
            if key in self._subjects:
                subject = msgspec.msgpack.encode(self._subjects[key])
                self._database.execute("INSERT OR REPLACE INTO subjects VALUES (?, ?)", (key, subject))

    def code(self, key: str, problem: Problem, tactic: Tactic) -> Code | None:
        """The compiled form of a tactic that some build chose, None where bytes of it have changed: it would be run."""
        with self._guarded():
            row = self._database.execute("SELECT code FROM codes WHERE key = ?", (key,)).fetchone()
            body = None if row is None else _unsealed(row[0])
            kept = None if body is None else msgspec.msgpack.decode(body, type=_Compiled)
        return None if kept is None else Code(problem, tactic, kept.blob, kept.info, kept.native, kept.workspace)

    def keep_code(self, key: str, code: Code) -> None:
        """Keep the code of a chosen tactic, so that the next build need not compile it."""
        self._tell()
        kept = _sealed(msgspec.msgpack.encode(_Compiled(code.blob, code.info, code.native, code.workspace)))
        with self._guarded(), self._database:
            self._database.execute("INSERT OR REPLACE INTO codes VALUES (?, ?)", (key, kept))

    def close(self) -> None:
        self._database.close()


def _sealed(body: bytes) -> bytes:
    """With a hash before it: SQLite's pages have none."""
    return hashlib.blake2b(body, digest_size=_SEAL).digest() + body


def _unsealed(kept: bytes) -> bytes | None:
    seal, body = kept[:_SEAL], kept[_SEAL:]
    return body if seal == hashlib.blake2b(body, digest_size=_SEAL).digest() else None


def _is_read_only(path: Path) -> bool:
    """Whether there is a file that may be read, and neither it nor its folder, where the log would be, written to."""
    if not path.is_file() or not os.access(path, os.R_OK):
        return False
    return not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))


def _copied(path: Path) -> sqlite3.Connection:
    """What a file holds, in memory."""
    memory = sqlite3.connect(":memory:")
    # Without its log, which is left by builds that were killed, the file is looked at as one that nobody changes.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True)) as file:
                file.backup(memory)
            return memory
        except sqlite3.OperationalError:
            if "immutable" in options:
                raise
    raise AssertionError("the last attempt returns or raises")
