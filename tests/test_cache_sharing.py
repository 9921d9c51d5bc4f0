"""One timing cache shared by several builds, killed builds and damaged disks."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tenonrt.builder.cache import CacheEntry, TimingCache
from tenonrt.errors import BuildError
from tenonrt.problem import Code, Problem, Tactic

FINGERPRINT = {"kind": "cpu", "model": "test"}
ENTRIES = 500


def write(path: Path, writer: int, count: int) -> None:
    cache = TimingCache(path, FINGERPRINT)
    print("ready", flush=True)  # noqa: T201
    for i in range(count):
        cache.put(cache.key(f"problem{i}", f"kernel{writer}", "1", "t"), CacheEntry(seconds=writer + i / 1024))
        cache.put(cache.key(f"shared{i}", "kernel", "1", "t"), CacheEntry(seconds=i / 1024))


def writer(path: Path, number: int, count: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, __file__, str(path), str(number), str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def test_four_builds_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite"
    writers = [writer(path, number, ENTRIES // 2) for number in range(4)]
    for process in writers:
        process.communicate(timeout=300)
    assert [process.returncode for process in writers] == [0] * 4
    cache = TimingCache(path, FINGERPRINT)
    for i in range(ENTRIES // 2):
        assert cache.get(cache.key(f"shared{i}", "kernel", "1", "t")) == CacheEntry(seconds=i / 1024)
        for number in range(4):
            found = cache.get(cache.key(f"problem{i}", f"kernel{number}", "1", "t"))
            assert found == CacheEntry(seconds=number + i / 1024)
    assert cache.hits == 5 * ENTRIES // 2
    assert cache.misses == 0
    cache.close()


def test_a_killed_writer_leaves_a_usable_file(tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite"
    for number in range(4):
        with writer(path, number, 100_000) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.07 * number)
            process.kill()
        cache = TimingCache(path, FINGERPRINT)
        key = cache.key("problem0", f"kernel{number}", "1", "t")
        assert cache.get(key) in (None, CacheEntry(seconds=number))
        cache.put(key, CacheEntry(seconds=9.0))
        assert cache.get(key) == CacheEntry(seconds=9.0)
        cache.close()


def test_every_part_of_the_key_matters(tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite"
    cache = TimingCache(path, FINGERPRINT)
    keys = {cache.key(*parts) for parts in (("a", "b", "c", "d"), ("a", "b", "c", "e"), ("ab", "", "c", "d"))}
    keys |= {cache.key("a", "b", "x", "d"), TimingCache(None, {"kind": "cpu"}).key("a", "b", "c", "d")}
    assert len(keys) == 5
    cache.close()


def test_verdicts_are_kept_between_builds(tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite"
    for _ in range(2):
        cache = TimingCache(path, dict(reversed(FINGERPRINT.items())))
        key = cache.key("p", "k", "1", "t")
        found = cache.get(key)
        cache.put(key, CacheEntry("it crashed", None, None))
        cache.close()
    assert found == CacheEntry("it crashed", None, None)


@pytest.mark.parametrize(
    "text", [b"not a database at all, but long enough to be one" * 40, b"SQLite format 3\0" + b"x" * 4096]
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "timings.sqlite"
    path.write_bytes(text)
    with pytest.raises(BuildError, match=r"timings.sqlite cannot be used: .*; name another file or remove it"):
        TimingCache(path, FINGERPRINT)
    assert path.read_bytes() == text


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"absent/timings.sqlite cannot be used"):
        TimingCache(tmp_path / "absent" / "timings.sqlite", FINGERPRINT)


def test_a_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(BuildError, match=r"cannot be used: .*null"):
        TimingCache("a\0b", FINGERPRINT)


@pytest.mark.parametrize("killed", [False, True])
def test_a_file_that_cannot_be_written_to_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, killed: bool
) -> None:
    """As in an image of a container, also where its last build was killed and left the log."""
    path = tmp_path / "timings.sqlite"
    cache = TimingCache(path, FINGERPRINT)
    key, other = cache.key("p", "k", "1", "t"), cache.key("q", "k", "1", "t")
    cache.put(key, CacheEntry(seconds=1.0))
    if killed:
        path = Path(shutil.copytree(tmp_path, tmp_path / "copy")) / path.name
    cache.close()
    before = path.read_bytes()
    # Root may write everywhere: what the system would say is said in its place.
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", _only_reading(sqlite3.connect))
        found = TimingCache(path, FINGERPRINT)
    assert found.get(key) == CacheEntry(seconds=1.0)
    with pytest.warns(UserWarning, match="cannot be written to: what this build finds out is not kept"):
        found.put(other, CacheEntry(seconds=2.0))
    found.put(other, CacheEntry(seconds=3.0))
    assert found.get(other) == CacheEntry(seconds=3.0)
    found.close()
    assert path.read_bytes() == before


def _only_reading(connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
    def checked(name: str, **options: Any) -> sqlite3.Connection:
        assert name == ":memory:" or "mode=ro" in name
        return connect(name, **options)

    return checked


def test_damage_inside_the_file_is_named(tmp_path: Path) -> None:
    """The first page is whole, so the damage shows only when an entry is looked for."""
    path = tmp_path / "timings.sqlite"
    cache = TimingCache(path, FINGERPRINT)
    keys = [cache.key(f"p{i}", "k", "1", "t") for i in range(300)]
    for key in keys:
        cache.put(key, CacheEntry("x" * 100))
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    path.write_bytes(data)
    damaged = TimingCache(path, FINGERPRINT)
    with pytest.raises(BuildError, match=r"timings.sqlite cannot be used"):
        [damaged.get(key) for key in keys]
    with pytest.raises(BuildError, match=r"timings.sqlite cannot be used"):
        [damaged.put(key, CacheEntry()) for key in keys]
    damaged.close()


@pytest.mark.parametrize(
    "entry",
    [
        b"\xc1",
        msgspec.msgpack.encode(CacheEntry(seconds=math.inf)),
        msgspec.msgpack.encode(CacheEntry(seconds=math.nan)),
        msgspec.msgpack.encode(CacheEntry(seconds=-1.0)),
        msgspec.msgpack.encode(CacheEntry("crashed")).replace(b"crashed", b"crash\xc5\x01"),
    ],
    ids=["none", "infinite", "not a number", "negative", "not text"],
)
def test_an_entry_that_is_no_entry_is_named(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "timings.sqlite"
    cache = TimingCache(path, FINGERPRINT)
    key = cache.key("p", "k", "1", "t")
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO timings VALUES (?, ?)", (key, entry))
    database.close()
    with pytest.raises(BuildError, match=r"timings.sqlite cannot be used"):
        cache.get(key)
    cache.close()


@pytest.mark.parametrize("position", [0, 15, 16, 40, -1])
def test_code_whose_bytes_have_changed_is_unknown(tmp_path: Path, position: int) -> None:
    """It would be run as it is."""
    path = tmp_path / "timings.sqlite"
    problem, tactic = Problem((), (), (), (), "cpu"), Tactic("t")
    code = Code(problem, tactic, bytes(range(256)))
    cache = TimingCache(path, FINGERPRINT)
    cache.keep_code("key", code)
    with sqlite3.connect(path) as database:
        kept = bytearray(database.execute("SELECT code FROM codes").fetchone()[0])
        kept[position] ^= 4
        database.execute("UPDATE codes SET code = ?", (bytes(kept),))
    database.close()
    assert cache.code("key", problem, tactic) is None
    cache.keep_code("key", code)
    assert cache.code("key", problem, tactic) == code
    cache.close()


def test_without_a_file_entries_last_for_one_build() -> None:
    cache = TimingCache(None, FINGERPRINT)
    cache.put(cache.key("p", "k", "1", "t"), CacheEntry(error=0.5))
    assert cache.get(cache.key("p", "k", "1", "t")) == CacheEntry(error=0.5)
    cache.close()
    again = TimingCache(None, FINGERPRINT)
    assert again.get(again.key("p", "k", "1", "t")) is None
    again.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
