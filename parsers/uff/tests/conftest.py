from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tenonrt import Builder, BuilderConfig, Network, PluginSet, Registry


def _load(name: str) -> Any:
    """The modules beside the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


for _name in ("uff_bytes", "uff_damage", "tf_bytes", "tf_cases", "tf_networks"):
    if Path(__file__).with_name(f"{_name}.py").exists():
        _load(_name)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Without compiled kernels: what is compared here is meaning."""
    return Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))


@pytest.fixture
def run(registry: Registry) -> Callable[..., dict[str, Any]]:
    """Outputs of a network on these inputs."""

    def run(network: Network, **inputs: Any) -> dict[str, Any]:
        config = BuilderConfig(optimization_level=0, plugins=registry.plugins)
        engine = Builder(config).build(network)
        return dict(engine.create_context().execute(inputs))

    return run
