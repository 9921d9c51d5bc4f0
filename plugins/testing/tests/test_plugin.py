"""The pytest plugin: its options, waivers and the isolated registry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tenonrt import Network, PluginError, current_registry
from tenonrt.contracts import TensorType
from tenonrt_testing.isolation import IsolatedRegistry
from tenonrt_testing.names import misnamed


def kit(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments]
    return subprocess.run(
        command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=300, check=False
    )


def test_suites_need_a_distribution(tmp_path: Path) -> None:
    done = kit(tmp_path, "--pyargs", "tenonrt_testing.suites")
    assert done.returncode != 0
    assert "pass --tenonrt-dist NAME" in done.stdout + done.stderr


def test_an_unknown_distribution_is_named(tmp_path: Path) -> None:
    done = kit(tmp_path, "--pyargs", "tenonrt_testing.suites", "--tenonrt-dist", "nobody-knows")
    assert done.returncode == 4
    assert "no installed distribution is called nobody-knows" in done.stderr


def test_a_waiver_that_is_not_needed_shows(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\ntenonrt_waivers =\n  test_is_a_device[tenonrt-*]: for the example\n"
    )
    done = kit(
        tmp_path, "--pyargs", "tenonrt_testing.suites.test_devices", "--tenonrt-dist", "tenonrt-device-cpu", "-q"
    )
    assert "1 xpassed" in done.stdout, done.stdout
    assert done.returncode == 0


def test_a_waiver_needs_a_reason(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntenonrt_waivers =\n  test_is_a_device\n")
    done = kit(tmp_path, "--pyargs", "tenonrt_testing.suites.test_devices", "--tenonrt-dist", "tenonrt-device-cpu")
    assert done.returncode == 4
    assert "gives no reason" in done.stdout + done.stderr


def test_isolated_plugins_discover_nothing(isolated_plugins: IsolatedRegistry) -> None:
    assert current_registry() is isolated_plugins
    assert isolated_plugins.records() == []
    with pytest.raises(PluginError, match="tenonrt-layer-activation"):
        Network().add("Activation", [Network().input("x", TensorType((2,)))], {"function": "relu"})


def test_isolated_plugins_hold_what_is_added(isolated_plugins: IsolatedRegistry) -> None:
    with pytest.raises(PluginError):
        isolated_plugins.layer_type("Activation")
    isolated_plugins.include("tenonrt-layer-activation")
    relu = type(isolated_plugins.layer_type("Activation"))
    isolated_plugins.add("tenonrt.layers", "acme.Relu", relu)
    network = Network()
    [y] = network.add("acme.Relu", [network.add_input("x", (2, 3))], {"function": "relu"})
    assert y.type == TensorType((2, 3))


def test_isolated_plugins_name_what_is_not_installed(isolated_plugins: IsolatedRegistry) -> None:
    with pytest.raises(ValueError, match="nobody-knows"):
        isolated_plugins.include("nobody-knows")


@pytest.mark.parametrize(
    ("group", "name", "good"),
    [
        ("tenonrt.layers", "acme.RoiAlign", True),
        ("tenonrt.layers", "Roi Align", False),
        ("tenonrt.kernels", "*/*.numpy", True),
        ("tenonrt.kernels", "cpu/@pointwise.llvm", True),
        ("tenonrt.kernels", "cpu/@pointless.llvm", False),
        ("tenonrt.kernels", "cpu/acme.Swish6.acme_blocked", True),
        ("tenonrt.kernels", "cpu/Softmax", False),
        ("tenonrt.mappings", "onnx::Relu", True),
        ("tenonrt.mappings", "onnx:Relu", False),
        ("tenonrt.passes", "fold.constants", True),
        ("tenonrt.passes", "sometime.constants", False),
        ("tenonrt.parsers", "onnx", True),
        ("tenonrt.hooks", "pins", True),
        ("tenonrt.kernel", "cpu/Softmax.acme", False),
        ("acme.other", "anything at all", True),
    ],
)
def test_names(group: str, name: str, good: bool) -> None:
    assert (misnamed(group, name) == "") is good
