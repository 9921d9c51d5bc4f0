"""What README.md and docs/ tell people to run does run, and their links lead somewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tenonrt import PluginSet

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def python(script: str, folder: Path, *path: Path) -> str:
    folders = [*map(str, path), *(entry for entry in sys.path if entry)]
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def tenonrt(arguments: list[str], folder: Path) -> str:
    return python(f"from tenonrt.cli.app import main; main({arguments!r})", folder)


def test_the_two_commands_are_there() -> None:
    assert "pip install uv && uv run tenonrt demo\npip install uv && uv run pytest\n" in blocks("sh")


def test_demo_builds_classifies_and_measures(tmp_path: Path) -> None:
    shown = tenonrt(["demo"], tmp_path)
    accuracy = re.search(r"top-1 accuracy (\d+\.\d+)%", shown)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    for word in ("original", "final steps", "median", "images per second", "arena", "weights", "workspace", "chosen"):
        assert word in shown
    assert list(tmp_path.iterdir()) == []


def test_commands_run(tmp_path: Path) -> None:
    digits = pytest.importorskip("tenonrt_digits")
    shutil.copy(digits.model_path(), tmp_path / "model.onnx")
    (commands,) = [block for block in blocks("sh") if "tenonrt build" in block]
    for line in commands.splitlines():
        program, *arguments = line.split()
        assert program == "tenonrt"
        assert tenonrt(arguments, tmp_path)


def test_python_example_runs(tmp_path: Path) -> None:
    example = blocks("python")[0]
    assert python(example, tmp_path).strip() == "(2, 4, 26, 26)"
    assert (tmp_path / "edges.plan").is_file()


def test_plugin_of_the_readme_competes(tmp_path: Path) -> None:
    """Installed as the page says, the kernel is a candidate, agrees with the reference and is timed."""
    (entry_points,) = [block for block in blocks("toml") if "fast_relu" in block]
    name, value = re.findall(r'"(\S+)" = "(\S+)"', entry_points)[0]
    (tmp_path / "fast_relu.py").write_text(blocks("python")[1])
    info = tmp_path / "fast_relu-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fast-relu\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tenonrt.kernels]\n{name} = {value}\n")
    report = """
import json, msgspec, tenonrt
engine = tenonrt.compile(network)
print(json.dumps(msgspec.to_builtins(engine.report.regions)))
"""
    define = blocks("python")[0].partition("tenonrt.compile")[0]
    regions = json.loads(python(define + report, tmp_path, tmp_path).splitlines()[-1])
    (mine,) = [c for region in regions for c in region["candidates"] if c["kernel"] == f"fast-relu:{name}"]
    assert mine["why"] == ""
    assert mine["error"] == 0
    assert mine["seconds"] > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_modules_named_by_the_architecture_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "core/src/tenonrt" / name).is_file()] == []


def test_the_hook_and_the_plugin_set_of_the_page_are_accepted(tmp_path: Path) -> None:
    """docs/hooks.md shows a module with its entry point, which a build would call, and a table that selects plugins."""
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    first, *_ = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ((name, value),) = tomllib.loads(first)["project"]["entry-points"]["tenonrt.hooks"].items()
    (tmp_path / f"{value}.py").write_text(module)
    info = tmp_path / "acme_hooks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-hooks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tenonrt.hooks]\n{name} = {value}\n")
    script = f"""
import warnings
from tenonrt import PluginSet, Registry
from tenonrt.plugins.hooks import Hooks
warnings.simplefilter("error")
registry = Registry(PluginSet())
hooks = Hooks(registry)
print([r.state for r in registry.records() if r.entry.id == "acme-hooks:{name}"])
"""
    assert python(script, tmp_path, tmp_path).strip() == "['loaded']"
    (selection,) = re.findall(r"^```toml\n(\[tool\.tenonrt\]\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(selection)
    assert PluginSet.from_project(tmp_path).allow == ("tenonrt-*", "acme-kernels")
