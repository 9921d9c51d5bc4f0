"""The distribution of hard cases, found the way any installed one is: by its metadata on the path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tenonrt import Registry
from tenonrt.plugins import discovery

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.syspath_prepend(str(PLUGINS))
    discovery.scan.cache_clear()
    yield Registry()
    discovery.scan.cache_clear()
