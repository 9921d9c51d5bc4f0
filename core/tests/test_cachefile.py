"""Timing caches as files: listed, merged without losing what is known, pruned by subject."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tenonrt.builder.cache import CacheEntry, TimingCache
from tenonrt.builder.cachefile import merge, prune, rows
from tenonrt.errors import BuildError

HERE, THERE = {"kind": "cpu", "model": "here"}, {"kind": "cpu", "model": "there"}


def filled(path: Path, fingerprint: dict[str, str], tactics: dict[str, float]) -> Path:
    cache = TimingCache(path, fingerprint)
    for tactic, seconds in tactics.items():
        cache.put(cache.key("problem", "acme:cpu/Relu.fast", "1.0", tactic), CacheEntry(seconds=seconds))
    cache.close()
    return path


def seconds(path: Path, fingerprint: dict[str, str], tactic: str) -> float | None:
    cache = TimingCache(path, fingerprint)
    entry = cache.get(cache.key("problem", "acme:cpu/Relu.fast", "1.0", tactic))
    cache.close()
    return None if entry is None else entry.seconds


def test_rows_say_what_they_are_about(tmp_path: Path) -> None:
    (row,) = rows(filled(tmp_path / "cache", HERE, {"t": 0.5}))
    assert row.subject is not None
    assert (row.subject.kernel, row.subject.version, row.subject.tactic) == ("acme:cpu/Relu.fast", "1.0", "t")
    assert "here" in row.subject.device
    assert row.entry.seconds == 0.5


def test_merging_adds_what_is_missing_and_keeps_what_is_known(tmp_path: Path) -> None:
    target = filled(tmp_path / "target", HERE, {"both": 1.0})
    first = filled(tmp_path / "first", HERE, {"both": 2.0, "new": 3.0})
    other = filled(tmp_path / "other", THERE, {"both": 4.0})
    assert merge(target, [first, other]) == 2
    assert seconds(target, HERE, "both") == 1.0
    assert seconds(target, HERE, "new") == 3.0
    assert seconds(target, THERE, "both") == 4.0
    assert merge(tmp_path / "made", [first]) == 2


def test_pruning_takes_what_is_unwanted_and_nothing_else(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache", HERE, {"keep": 1.0, "drop": 2.0})
    assert prune(path, lambda row: row.subject is not None and row.subject.tactic == "drop") == 1
    assert seconds(path, HERE, "keep") == 1.0
    assert seconds(path, HERE, "drop") is None


def test_a_cache_of_an_earlier_version_can_be_listed(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache", HERE, {"t": 0.5})
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE subjects")
    (row,) = rows(path)
    assert row.subject is None


@pytest.mark.parametrize("content", [None, b"not a database at all, but long enough to be looked at" * 3, b""])
def test_what_is_no_cache_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cache"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BuildError, match="cache"):
        rows(path)
    if content is not None:
        assert path.read_bytes() == content


def test_a_subject_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path / "cache", HERE, {"tactic": 1.0})
    with sqlite3.connect(path) as database:
        (kept,) = database.execute("SELECT subject FROM subjects").fetchone()
        database.execute("UPDATE subjects SET subject = ?", (bytes(kept).replace(b"Relu", b"Rel\xc5"),))
    database.close()
    with pytest.raises(BuildError, match=r"cache is no timing cache that can be used: 'utf-8' codec"):
        rows(path)
