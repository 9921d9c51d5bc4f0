"""What loading a distribution imports, asked of one process for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tenonrt.plugins import discovery
from tenonrt_testing import loading
from tenonrt_testing.loading import loadings

BODIES = {
    "noisy": "print('{}'); import wave",
    "crashing": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "failing": "import sndhdr_of_old, wave",
    "plain": "import json",
    "hanging": "import time; time.sleep(1000)",
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, body in BODIES.items():
        (tmp_path / f"{name}_module.py").write_text(f"{body}\nkind = 1\n")
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[tenonrt.layers]\n{name}.Kind = {name}_module:kind\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    discovery.scan.cache_clear()
    yield
    discovery.scan.cache_clear()


def test_each_distribution_by_itself() -> None:
    found = loadings(["noisy", "crashing", "failing", "plain"], ("wave", "turtle"))
    assert found["noisy"].heavy == {"tenonrt.layers noisy.Kind": ["wave"]}
    assert found["crashing"].status == -11
    assert [found[name].heavy for name in ("failing", "plain")] == [{}, {}], "wave was imported for another one"
    assert [found[name].status for name in ("noisy", "failing", "plain")] == [0, 0, 0]


def test_one_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_SECONDS", 0.0)
    found = loadings(["hanging"], ("wave",))["hanging"]
    assert found.status != 0
    assert "no answer within 2 s" in found.errors
