"""The version of a plugin's code follows its files and what it requires, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenonrt.plugins import code_version as module
from tenonrt.plugins import discovery, metadata
from tenonrt.plugins.code_version import code_version
from tenonrt.plugins.registry import KERNELS, Registry

LARGE = (1 << 20) + 7


def install(folder: Path, value: str = "acme_fast.relu:Fast", requires: str = "needed>=1") -> None:
    """``acme-fast`` with a package, a module of its own and a requirement that is installed."""
    for name, points in (("acme_fast", f"[tenonrt.kernels]\ncpu/Relu.fast = {value}\ncpu/Tanh.fast = acme_tanh:Fast\n"),
                         ("needed", "")):  # fmt: skip
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n"
        )
        (info / "entry_points.txt").write_text(points)
    package = folder / "acme_fast"
    package.mkdir()
    for name in ("__init__.py", "relu.py", "tile.py"):
        (package / name).write_text("raise ImportError('nothing is imported')\n")
    (package / "library.so").write_bytes(bytes(LARGE))
    (folder / "acme_tanh.py").write_text("")


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for known in (module._digest, module._digest_of, discovery.scan, metadata._by_name):
        known.cache_clear()


def version(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "cpu/Relu.fast") -> str:
    """What a process that starts now would say."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        forget()
        (entry,) = [entry for entry in Registry().entries(KERNELS) if entry.name == name]
        return code_version(entry)


def test_an_edit_of_any_file_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    seen = [version(tmp_path, monkeypatch)]
    assert seen[0].startswith("1.0+")
    package = tmp_path / "acme_fast"
    for edit in (
        lambda: (package / "tile.py").write_text("WIDTH = 6\n"),
        lambda: (package / "tile.py").rename(package / "tiles.py"),
        lambda: (package / "kernel.cu").write_text("__global__"),
        lambda: (package / "library.so").write_bytes(b"\1" + bytes(LARGE - 1)),
        lambda: (package / "library.so").write_bytes(bytes(LARGE - 1) + b"\1"),
        lambda: (package / "library.so").write_bytes(bytes(LARGE + 1)),
        lambda: (tmp_path / "acme_tanh.py").write_text("import acme_fast"),
        lambda: (tmp_path / "needed-1.0.dist-info" / "METADATA").write_text("Name: needed\nVersion: 1.1\n"),
    ):
        edit()
        seen.append(version(tmp_path, monkeypatch))
    assert len(set(seen)) == len(seen)
    assert version(tmp_path, monkeypatch, "cpu/Tanh.fast") == seen[-1], "one version for a distribution"


def test_the_same_code_elsewhere_is_the_same_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "there"):
        install(tmp_path / name)
    cache = tmp_path / "there" / "acme_fast" / "__pycache__"
    cache.mkdir()
    (cache / "relu.cpython-311.pyc").write_bytes(b"compiled")
    os.utime(tmp_path / "there" / "acme_fast" / "relu.py", (1, 1))
    assert version(tmp_path / "here", monkeypatch) == version(tmp_path / "there", monkeypatch)


@pytest.mark.parametrize("value", ["gone.kernel:Fast", "no module:at.all", "acme_fast..relu:Fast"])
def test_code_that_cannot_be_found_has_the_version_of_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(tmp_path, value)
    (tmp_path / "acme_tanh.py").unlink()
    (tmp_path / "acme_fast" / "relu.py").unlink()
    assert version(tmp_path, monkeypatch).startswith("1.0")


def test_a_namespace_is_not_the_code_of_one_of_its_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "acme.fast.relu:Fast")
    for part in ("fast", "slow"):
        (tmp_path / "acme" / part).mkdir(parents=True)
        (tmp_path / "acme" / part / "__init__.py").write_text("")
    before = version(tmp_path, monkeypatch)
    (tmp_path / "acme" / "slow" / "__init__.py").write_text("pass")
    assert version(tmp_path, monkeypatch) == before
    (tmp_path / "acme" / "fast" / "__init__.py").write_text("pass")
    assert version(tmp_path, monkeypatch) != before


def test_loading_a_plan_asks_for_no_version(tmp_path: Path) -> None:
    script = """
import sys
import tenonrt
network = tenonrt.Network()
network.mark_output(network.add_activation(network.add_input("x", (2, 3)), function="relu"), "y")
if sys.argv[2] == "build":
    tenonrt.compile(network, optimization_level=0).save(sys.argv[1])
else:
    tenonrt.Engine.load(sys.argv[1]).create_context()
print("tenonrt.plugins.code_version" in sys.modules)
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "m.plan"), what], capture_output=True, text=True, check=True
        ).stdout.strip()
        for what in ("build", "load")
    ]
    assert said == ["True", "False"]
