"""Listing verbs imports nothing heavy and no plugin; verbs of other distributions are imported when invoked."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tenonrt = Callable[..., subprocess.CompletedProcess[str]]

HEAVY = ["cupy", "onnx", "google.protobuf", "llvmlite", "highspy", "scipy", "torch", "onnxruntime", "numpy"]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["build", "--help"], ["bench", "--help"], ["--version"]], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from tenonrt.cli.app import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert not stop.code, stop.code
import json
print("\\n" + json.dumps(sorted(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = json.loads(result.stdout.splitlines()[-1])
    assert [name for name in modules if name in HEAVY] == []
    assert [name for name in modules if name.startswith("tenonrt_")] == []


@pytest.fixture
def distribution(tmp_path: Path) -> Path:
    """A folder with an installed distribution that offers two verbs, one of which cannot be imported."""
    info = tmp_path / "acme_verbs-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-verbs\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(
        "[tenonrt.commands]\ngreet = acme_greeting:greet\nbroken = acme_broken:anything\n"
    )
    (tmp_path / "acme_greeting.py").write_text(
        "def greet(name: str, loud: bool = False) -> None:\n"
        '    """Greet someone."""\n'
        '    print(("HELLO " if loud else "hello ") + name)\n'
    )
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no licence found')\n")
    return tmp_path


def test_contributed_verbs_are_listed_with_their_distribution(tenonrt: Tenonrt, distribution: Path) -> None:
    result = tenonrt("--help", path=distribution)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if "acme-verbs 2.5" in line]
    assert sorted(line.split()[1] for line in lines) == ["broken", "greet"]


def test_contributed_verb_takes_options_from_its_signature(tenonrt: Tenonrt, distribution: Path) -> None:
    assert tenonrt("greet", "Ada", "--loud", path=distribution).stdout == "HELLO Ada\n"
    assert tenonrt("greet", path=distribution).returncode == 2
    assert "Greet someone." in tenonrt("greet", "--help", path=distribution).stdout


def test_broken_verb_says_why_and_breaks_nothing_else(tenonrt: Tenonrt, distribution: Path) -> None:
    result = tenonrt("broken", path=distribution)
    assert result.returncode == 1
    assert "no licence found" in result.stderr
    assert "Traceback" not in result.stderr
    why = tenonrt("plugins", "--why", "broken", path=distribution)
    assert why.returncode == 0, why.stderr
    assert "Traceback" in why.stdout
    assert "acme_broken.py" in why.stdout


def test_denied_verb_is_not_listed(tenonrt: Tenonrt, distribution: Path) -> None:
    result = tenonrt("--help", path=distribution, TENONRT_PLUGINS_DENY="acme-*")
    assert "acme-verbs" not in result.stdout
    assert tenonrt("greet", "Ada", path=distribution, TENONRT_PLUGINS_DENY="acme-*").returncode == 2
