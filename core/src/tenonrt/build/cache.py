"""The timing cache: one SQLite file that concurrent builds share; SQLite's locking and journal keep it whole."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tenonrt.errors import BuildError

TUNER_VERSION = 1


class CacheEntry(msgspec.Struct, frozen=True):
    """What is known of a tactic at a problem on a device: refused with a reason, or its error and maybe its time."""

    why: str = ""
    error: float | None = None
    seconds: float | None = None


class TimingCache:
    """``path`` None keeps the entries in memory, for one build."""

    def __init__(self, path: Path | str | None, fingerprint: Mapping[str, str]) -> None:
        self._path = None if path is None else Path(path)
        self._device = msgspec.json.encode(dict(sorted(fingerprint.items())))
        self.hits = 0
        self.misses = 0
        try:
            self._database = sqlite3.connect(":memory:" if path is None else str(path), timeout=30.0)
            self._database.execute("CREATE TABLE IF NOT EXISTS timings (key TEXT PRIMARY KEY, entry BLOB NOT NULL)")
            self._database.commit()
        except sqlite3.Error as error:
            message = f"the timing cache {path} cannot be used: {error}; name another file or remove it"
            raise BuildError(message) from error

    def key(self, problem: str, kernel: str, version: str, tactic: str) -> str:
        parts = (problem, kernel, version, tactic, str(TUNER_VERSION))
        digest = hashlib.blake2b(self._device, digest_size=16)
        for part in parts:
            digest.update(b"\0" + part.encode())
        return digest.hexdigest()

    def get(self, key: str) -> CacheEntry | None:
        row = self._database.execute("SELECT entry FROM timings WHERE key = ?", (key,)).fetchone()
        if row is None:
            self.misses += 1
            return None
        self.hits += 1
        return msgspec.msgpack.decode(row[0], type=CacheEntry)

    def put(self, key: str, entry: CacheEntry) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO timings VALUES (?, ?)", (key, msgspec.msgpack.encode(entry)))

    def close(self) -> None:
        self._database.close()
