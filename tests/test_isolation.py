"""Broken plugins harm nobody: they are left out with their reason, and the engine is right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

BROKEN = Path(__file__).parent / "broken-plugins"
KERNELS = {
    "broken-wrong": "values are off",
    "broken-raises": 'no such luck") in launch, line 29 of broken_raises.py',
    "broken-crashes": "SIGSEGV",
    "broken-hangs": "did not finish within 2 s",
    "broken-overflows": "wrote outside",
    "broken-inputs": "changed its input",
}
BUILD = """
import json, sys, warnings
import numpy as np
import tenonrt
from tenonrt import Builder, BuilderConfig, Network

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    network = Network()
    x = network.add_input("x", (3, 7))
    y = network.add_softmax(network.add_activation(x, function="relu"), axis=1)
    network.mark_output(y, "y")
    config = BuilderConfig(optimization_level=int(sys.argv[1]), trial_seconds=2)
    engine = Builder(config).build(network)
    values = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    result = engine.create_context().execute({"x": values})["y"]
powers = np.exp(np.maximum(values.astype(np.float64), 0))
print(json.dumps({
    "error": float(np.abs(result - powers / powers.sum(1, keepdims=True)).max()),
    "why": {c.kernel: c.why for region in engine.report.regions for c in region.candidates},
    "chosen": [step.kernel for step in engine.report.steps],
    "warnings": [str(w.message) for w in caught if w.category.__name__ == "PluginWarning"],
}))
"""
UNKNOWN_KIND = """
from tenonrt import Network
network = Network()
network.add("{kind}", [network.add_input("x", (2, 3))])
"""


def python(code: str, *arguments: str, plugins: Sequence[str] = (), **environment: str) -> Any:
    """Run code in a process where broken plugins are installed."""
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(str(BROKEN / name) for name in plugins)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)


def build(level: int, plugins: Sequence[str]) -> dict[str, Any]:
    done = python(BUILD, str(level), plugins=plugins)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("level", [0, 3])
def test_broken_kernels_are_left_out_with_their_reason(level: int) -> None:
    result = build(level, list(KERNELS))
    for name, reason in KERNELS.items():
        why = result["why"][f"{name}:cpu/Softmax.{name.replace('-', '_')}"]
        assert reason in why, f"{name}: {why!r}"
    assert not any(kernel.startswith("broken") for kernel in result["chosen"])
    assert result["error"] < 1e-6


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [("broken-import", "libbroken.so.1 is not there"), ("broken-incompatible", "tenonrt-core")],
)
def test_an_unusable_plugin_is_one_warning(plugin: str, reason: str) -> None:
    result = build(0, [plugin])
    [warning] = result["warnings"]
    assert plugin in warning
    assert reason in warning
    assert result["error"] < 1e-6


def test_both_are_two_warnings() -> None:
    assert len(build(0, ["broken-import", "broken-incompatible"])["warnings"]) == 2


@pytest.mark.parametrize("plugin", ["broken-import", "broken-incompatible"])
def test_strict_raises(plugin: str) -> None:
    done = python(BUILD, "0", plugins=[plugin], TENONRT_STRICT="1")
    assert done.returncode == 1
    assert "PluginError" in done.stderr
    assert plugin in done.stderr.splitlines()[-1]


def test_without_broken_plugins_nothing_is_said() -> None:
    assert build(0, [])["warnings"] == []


def test_an_absent_plugin_is_named() -> None:
    """A registry without entries stands for an environment in which nothing is installed."""
    from tenonrt import Network, PluginError, Registry

    network = Network(registry=Registry(entries=[]))
    with pytest.raises(PluginError, match="install tenonrt-layer-softmax"):
        network.add("Softmax", [network.add_input("x", (2, 3))])


def test_a_denied_plugin_is_named() -> None:
    done = python(UNKNOWN_KIND.format(kind="Softmax"), TENONRT_PLUGINS_DENY="tenonrt-layer-softmax")
    assert done.returncode == 1
    assert "tenonrt-layer-softmax:Softmax is blocked" in done.stderr.splitlines()[-1]


def test_a_strangers_absent_kind_is_explained() -> None:
    done = python(UNKNOWN_KIND.format(kind="nobody.Knows"))
    assert done.returncode == 1
    assert "no installed distribution offers the layer kind 'nobody.Knows'" in done.stderr.splitlines()[-1]


def test_a_kernel_that_raises_when_asked_is_quarantined() -> None:
    result = build(0, ["broken-supports"])
    assert result["error"] < 1e-6
    assert any("broken-supports" in kernel for kernel in result["why"])
