"""The distribution of hard cases, found the way any installed one is: by its metadata on the path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tenonrt import Registry
from tenonrt.plugins import discovery
from tenonrt.plugins.selection import PluginSet

PLUGINS = Path(__file__).parent / "plugins"
# What is offered and timed is the subject here: kernels that are installed besides would change it.
ALLOWED = PluginSet(("hard-cases", "tenonrt-device-cpu", "tenonrt-kernel-numpy", "tenonrt-layer-*", "tenonrt-passes-*"))


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.syspath_prepend(str(PLUGINS))
    discovery.scan.cache_clear()
    yield Registry(ALLOWED)
    discovery.scan.cache_clear()
