"""The plugin that docs/writing-plugins.md shows, installed as the page says, passes the conformance kit and works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "writing-plugins.md").read_text(encoding="utf-8")
BUILD = """
import tenonrt
network = tenonrt.Network()
x = network.add_input("x", (2, 3))
for _ in range(3):
    x = network.add_activation(x, function="relu")
network.mark_output(x, "y")
print(len(tenonrt.compile(network, optimization_level=0).report.steps))
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the page's plugin is installed."""
    for name, code in re.findall(r"^```python\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(code)
    [text] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    project = tomllib.loads(text)["project"]
    info = tmp_path / "zeta_tenonrt-0.1.0.dist-info"
    info.mkdir()
    fields = {"Metadata-Version": "2.4", "Name": project["name"], "Version": project["version"]}
    fields |= {"Summary": project["description"], "License-Expression": project["license"]}
    needs = [f"Requires-Dist: {requirement}" for requirement in project["dependencies"]]
    (info / "METADATA").write_text("\n".join([*(f"{k}: {v}" for k, v in fields.items()), *needs, ""]))
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join([*groups, ""]))
    folders = [str(tmp_path), *(entry for entry in sys.path if entry)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}


def run(installed: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=installed, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_passes_the_kit(installed: dict[str, str], tmp_path: Path) -> None:
    shown = run(
        installed, tmp_path, "-m", "pytest", "--pyargs", "tenonrt_testing.suites", "--tenonrt-dist", "zeta-tenonrt",
        "-v", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
    )  # fmt: skip
    assert "test_graph_computes_the_same[zeta-tenonrt:tidy.zeta_relus] PASSED" in shown
    assert "test_is_accepted[zeta-tenonrt:zeta] PASSED" in shown
    assert "test_every_tensor_gets_a_range[zeta-tenonrt:zeta-peaks] PASSED" in shown


def test_the_pass_leaves_one_relu_of_three(installed: dict[str, str], tmp_path: Path) -> None:
    """Counted in steps, so kernels that compute several activations in one take no part."""
    installed = {**installed, "TENONRT_PLUGINS_DENY": "tenonrt-kernel-llvm"}
    assert run(installed, tmp_path, "-W", "error", "-c", BUILD).strip() == "1"
    without = {**installed, "TENONRT_PLUGINS_DENY": "tenonrt-kernel-llvm,zeta-tenonrt"}
    assert run(without, tmp_path, "-W", "error", "-c", BUILD).strip() == "3"
