"""Where a shared library is looked for, and in which order; the C library stands for those of other distributions."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from tenonrt.contracts import load_library

VARIABLE = "TENONRT_TEST_LIBRARY"


@pytest.fixture
def own() -> str:
    """A library that surely loads."""
    return str(Path(ctypes.__file__).parent.parent / "lib-dynload" / Path(__import__("_ctypes").__file__).name)


def test_what_loads_first_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "brand").mkdir()
    (tmp_path / "brand" / "libthing.so.2").write_bytes(b"no library")
    (tmp_path / "brand" / "libthing.so.1").symlink_to(own)
    monkeypatch.syspath_prepend(tmp_path)
    found = load_library(VARIABLE, ["brand/libthing.so.?"], ["libnowhere.so"])
    assert found is not None
    assert found._name == str(tmp_path / "brand" / "libthing.so.1")
    monkeypatch.setenv(VARIABLE, own)
    assert load_library(VARIABLE, ["brand/libthing.so.?"], ())._name == own  # type: ignore[union-attr]


def test_none_where_none_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/libthing.so")
    assert load_library(VARIABLE, ["nobody/*.so"], ["libnowhere.so"]) is None
