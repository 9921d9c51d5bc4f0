"""The workspace's distributions are laid out, described and bounded as their users and the plugin registry expect."""

import configparser
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / ".ci" / "members.py"
CORE = "tenonrt-core"

KIND = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
WORD = r"[a-z][a-z0-9_-]*"
ENTRY_POINT_NAMES = {
    "console_scripts": WORD,
    "pytest11": WORD,
    "tenonrt.calibrators": WORD,
    "tenonrt.runners": WORD,
    "tenonrt.commands": WORD,
    "tenonrt.devices": WORD,
    "tenonrt.hooks": WORD,
    "tenonrt.kernels": rf"(\*|{WORD})/(\*|@{WORD}|{KIND})\.{WORD}",
    "tenonrt.layers": KIND,
    "tenonrt.mappings": rf"{WORD}:[\w.-]*:[\w.-]+",
    "tenonrt.parsers": WORD,
    "tenonrt.exporters": rf"{WORD}-{WORD}",
    "tenonrt.fixtures": r"[a-z0-9_]+",
    "tenonrt.passes": rf"{WORD}\.{WORD}",
}
ENTRY_POINT_VALUE = rf"{KIND}(:{KIND})?"


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


MEMBERS = sorted(
    path.parent
    for folder in read(ROOT / "pyproject.toml")["tool"]["uv"]["workspace"]["members"]
    for path in ROOT.glob(f"{folder}/pyproject.toml")
)
FIRST_PARTY = [
    folder for folder in MEMBERS if read(folder / "pyproject.toml")["project"]["name"].startswith("tenonrt-")
]
each_member = pytest.mark.parametrize("folder", MEMBERS, ids=lambda folder: str(folder.relative_to(ROOT)))
each_first_party = pytest.mark.parametrize("folder", FIRST_PARTY, ids=lambda folder: str(folder.relative_to(ROOT)))


def run_generator(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)


def build_wheel(folder: Path, destination: Path) -> tuple[Message, configparser.ConfigParser, list[str]]:
    """The metadata, entry points and file names of the wheel that the folder builds."""
    build = subprocess.run(
        [os.environ.get("UV", "uv"), "build", "--wheel", "--quiet", "--out-dir", destination, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    (wheel,) = destination.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        texts = {name.rpartition("/")[2]: archive.read(name).decode() for name in names if ".dist-info/" in name}
    entry_points = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    entry_points.optionxform = str  # type: ignore[assignment, method-assign]  # names are case-sensitive
    entry_points.read_string(texts.get("entry_points.txt", ""))
    return Parser().parsestr(texts["METADATA"]), entry_points, names


def test_generated_files_are_current() -> None:
    result = run_generator(GENERATOR, "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_lock_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert [name for name in tracked if Path(name).name in {"uv.lock", ".python-version"}] == []


@each_member
def test_member_is_a_typed_package_under_src(folder: Path) -> None:
    packages = [path for path in (folder / "src").iterdir() if (path / "__init__.py").is_file()]
    assert len(packages) == 1, f"{folder / 'src'} should hold one package"
    assert (packages[0] / "py.typed").is_file()


@each_member
def test_entry_points_are_well_formed(folder: Path) -> None:
    project = read(folder / "pyproject.toml")["project"]
    groups = project.get("entry-points", {}) | {"console_scripts": project.get("scripts", {})}
    assert groups.keys() <= ENTRY_POINT_NAMES.keys()
    for group, entries in groups.items():
        for name, value in entries.items():
            assert re.fullmatch(ENTRY_POINT_NAMES[group], name), f"{group}: {name}"
            assert re.fullmatch(ENTRY_POINT_VALUE, value), f"{group}: {name} = {value}"


@each_first_party
def test_wheel_says_what_was_written(folder: Path, tmp_path: Path) -> None:
    project = read(folder / "pyproject.toml")["project"]
    metadata, entry_points, names = build_wheel(folder, tmp_path)
    version = read(ROOT / "pyproject.toml")["project"]["version"]
    major, minor = map(int, version.split(".")[:2])
    assert metadata["Version"] == version
    assert metadata["License-Expression"] == "Apache-2.0"
    if project["name"] != CORE:
        needs = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
        assert SpecifierSet(f">={major}.{minor},<{major}.{minor + 1}") in [n.specifier for n in needs if n.name == CORE]
    for group, entries in project.get("entry-points", {}).items():
        assert dict(entry_points[group]) == entries
    assert any(name.endswith("/py.typed") for name in names)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace of this root at version 0.1.0, this generator and the core, to add members to."""
    for name in ("pyproject.toml", ".ci/members.py", "core/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(re.sub(r'(?m)^version = ".*"', 'version = "0.1.0"', text), encoding="utf-8")
    return tmp_path


def add_member(workspace: Path, folder: str, text: str) -> Path:
    path = workspace / folder / "pyproject.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def generate(workspace: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_generator(workspace / ".ci" / "members.py", *arguments)


def test_generator_completes_a_minimal_member(workspace: Path) -> None:
    path = add_member(
        workspace,
        "plugins/layer-demo",
        """\
[project]
name = "tenonrt-layer-demo"
description = "A demonstration"
dependencies = ["tenonrt-parser-onnx[x]>=7; python_version < '3.12'", "tenonrtx>=2", "scipy>=1.11"]  # why scipy
# why the extra
optional-dependencies.more = ["tenonrt-testing"]
[project.entry-points."tenonrt.layers"]
Zeta = "tenonrt_layer_demo:Zeta"
# the first
Alpha = "tenonrt_layer_demo:Alpha"
[tool.uv]
conflicts = [[{ extra = "a" }, { extra = "b" }]]
""",
    )
    assert generate(workspace, "--check").returncode == 1
    assert generate(workspace).returncode == 0
    assert generate(workspace, "--check").returncode == 0
    root, member = read(workspace / "pyproject.toml"), read(path)
    project = member["project"]
    assert project["requires-python"] == root["project"]["requires-python"]
    assert project["dependencies"] == [
        "tenonrt-core>=0.1,<0.2",
        "tenonrt-parser-onnx[x]>=0.1,<0.2; python_version < '3.12'",
        "tenonrtx>=2",
        "scipy>=1.11",
    ]
    assert project["optional-dependencies"] == {"more": ["tenonrt-testing>=0.1,<0.2"]}
    assert list(project["entry-points"]["tenonrt.layers"]) == ["Alpha", "Zeta"]
    assert member["build-system"] == root["build-system"]
    assert member["tool"]["uv"]["conflicts"] == [[{"extra": "a"}, {"extra": "b"}]]
    assert all(f"# {comment}" in path.read_text() for comment in ("why scipy", "why the extra", "the first"))
    assert "tenonrt-layer-demo>=0.1,<0.2" in root["project"]["dependencies"]
    assert root["tool"]["uv"]["sources"]["tenonrt-layer-demo"] == {"workspace": True}
    assert "tenonrt_layer_demo" in root["tool"]["importlinter"]["root_packages"]


def test_generator_keeps_samples_out_of_the_runtime(workspace: Path) -> None:
    text = '[project]\nname = "acme-tenonrt"\ndescription = "A stranger\'s"\nversion = "3.0"\n'
    path = add_member(workspace, "contrib/example-plugin", text)
    kit = (
        '[project]\nname = "tenonrt-testing"\ndescription = "The kit"\nentry-points.pytest11.x = "tenonrt_testing.x"\n'
    )
    add_member(workspace, "plugins/testing", kit)
    assert generate(workspace).returncode == 0
    root = read(workspace / "pyproject.toml")
    assert path.read_text() == text
    assert not [name for name in root["project"]["dependencies"] if not name.startswith("tenonrt-core[")]
    assert root["dependency-groups"]["members"] == ["acme-tenonrt", "tenonrt-testing"]


def test_generator_releases_all_under_the_roots_version(workspace: Path) -> None:
    root = workspace / "pyproject.toml"
    root.write_text(root.read_text().replace('version = "0.1.0"', 'version = "1.9.2"', 1))
    path = add_member(
        workspace, "kernels/demo", '[project]\nname = "tenonrt-kernel-demo"\ndescription = "A demonstration"\n'
    )
    assert generate(workspace).returncode == 0
    assert read(path)["project"]["version"] == "1.9.2"
    assert read(path)["project"]["dependencies"] == ["tenonrt-core>=1.9,<1.10"]
    assert "tenonrt-kernel-demo>=1.9,<1.10" in read(root)["project"]["dependencies"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[project]\nname = "tenonrt-x"\n', "lacks description"),
        ("[project\n", "is not TOML"),
        ('[project]\nname = "tenonrt-x"\ndescription = "d"\n[[tool.x]]\na = 1\n', "array of inline tables"),
    ],
)
def test_generator_names_the_file_it_cannot_use(workspace: Path, text: str, message: str) -> None:
    path = add_member(workspace, "plugins/broken", text)
    result = generate(workspace)
    assert result.returncode == 1
    assert str(path) in result.stderr
    assert message in result.stderr
    assert path.read_text() == text
