"""A timing cache as a file to look into, to merge others into, and to prune; builds go through `TimingCache`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tenonrt.builder.cache import CacheEntry, Subject
from tenonrt.errors import BuildError

TABLES = {"timings": "entry", "codes": "code", "subjects": "subject"}


@dataclass(frozen=True)
class Row:
    """One entry. subject: None where an earlier version wrote it; code: bytes of compiled code kept with it."""

    key: str
    entry: CacheEntry
    subject: Subject | None
    code: int


def rows(path: Path) -> list[Row]:
    """Every entry; `BuildError` names a file that is no timing cache."""
    with _opened(path) as database:
        found = database.execute(
            "SELECT timings.key, entry, subject, COALESCE(LENGTH(code), 0) FROM timings "
            "LEFT JOIN subjects USING (key) LEFT JOIN codes USING (key) ORDER BY timings.key"
        )
        return [
            Row(
                key,
                msgspec.msgpack.decode(entry, type=CacheEntry),
                None if subject is None else msgspec.msgpack.decode(subject, type=Subject),
                code,
            )
            for key, entry, subject, code in found
        ]


def merge(target: Path, sources: Sequence[Path]) -> int:
    """Add what other files know and this one does not; how many entries came. Keys tell machines apart."""
    added = 0
    for source in sources:
        if not source.is_file():
            raise BuildError(f"there is no timing cache {source}")
        with _opened(source) as other, _opened(target, create=True) as database:
            before = _count(database)
            for table, column in TABLES.items():
                given = other.execute(f"SELECT key, {column} FROM {table}")  # noqa: S608 - both are names of ours
                database.executemany(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", given)  # noqa: S608
            database.commit()
            added += _count(database) - before
    return added


def prune(path: Path, unwanted: Callable[[Row], bool]) -> int:
    """Remove entries, with the code that is kept with them; how many."""
    keys = [(row.key,) for row in rows(path) if unwanted(row)]
    with _opened(path) as database:
        for table in TABLES:
            database.executemany(f"DELETE FROM {table} WHERE key = ?", keys)  # noqa: S608 - a name of ours
        database.commit()
        database.execute("VACUUM")
    return len(keys)


def _count(database: sqlite3.Connection) -> int:
    (count,) = database.execute("SELECT COUNT(*) FROM timings").fetchone()
    return int(count)


@contextmanager
def _opened(path: Path, *, create: bool = False) -> Iterator[sqlite3.Connection]:
    if not create and not path.is_file():
        raise BuildError(f"there is no timing cache {path}")
    try:
        with closing(sqlite3.connect(path, timeout=60.0)) as database:
            if not create:  # a file that is something else must not become a cache
                database.execute("SELECT COUNT(*) FROM timings").fetchone()
            for table, column in TABLES.items():
                database.execute(f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, {column} BLOB NOT NULL)")
            yield database
    except (sqlite3.Error, ValueError) as error:
        raise BuildError(f"{path} is no timing cache that can be used: {error}") from error
