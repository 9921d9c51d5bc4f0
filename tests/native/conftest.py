"""Kernels in machine code, found the way any installed ones are: by their metadata on the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tenonrt import Builder, BuilderConfig, Engine, Network, Registry
from tenonrt.plan.program import Choice
from tenonrt.plugins import discovery

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    pytest.importorskip("llvmlite", reason="makes the kernels of these tests")
    monkeypatch.syspath_prepend(str(PLUGINS))
    discovery.scan.cache_clear()
    yield Registry()
    discovery.scan.cache_clear()


Build = Callable[..., Engine]


@pytest.fixture
def build(registry: Registry) -> Build:
    """Build a network from layers that are each computed by the kernel of native-cases that its name begins with."""

    def built(network: Network, threads: int = 1) -> Engine:
        regions = {}
        for layer in network.layers:
            name = layer.name.partition("_")[0]
            regions[layer.name] = (f"native-cases:cpu/{layer.kind}.{name}", "default")
        config = BuilderConfig(optimization_level=0, threads=threads, replay=Choice(regions))
        return Builder(config).build(network)

    return built
