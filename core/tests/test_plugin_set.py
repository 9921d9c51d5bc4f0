"""Plugin sets from a project's file and the environment, and what they require."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from tenonrt import PluginError, PluginSet, Registry

NUMPY = "tenonrt-kernel-numpy"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pyproject.toml of the current directory, not yet written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TENONRT_PLUGINS_ALLOW", raising=False)
    monkeypatch.delenv("TENONRT_PLUGINS_DENY", raising=False)
    return tmp_path / "pyproject.toml"


def test_all_fields_are_read_and_tables_are_left_to_plugins(project: Path) -> None:
    project.write_text(
        '[tool.tenonrt]\nrequired = ["numpy>=1"]\nallow = ["tenonrt-*"]\ndeny = ["acme-*"]\nreplace = ["a"]\n'
        'prefer = ["b", "c"]\n[tool.tenonrt.pins]\nforbid = []\n'
    )
    expected = PluginSet(("tenonrt-*",), ("acme-*",), ("a",), ("b", "c"), ("numpy>=1",))
    assert PluginSet.from_project(project) == PluginSet.from_project(project.parent) == expected
    assert PluginSet.from_environment() == expected


def test_the_environment_replaces_allow_and_adds_to_deny(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_text('[tool.tenonrt]\nallow = ["a"]\ndeny = ["b"]\n')
    monkeypatch.setenv("TENONRT_PLUGINS_ALLOW", "c, d")
    monkeypatch.setenv("TENONRT_PLUGINS_DENY", "e")
    assert PluginSet.from_environment() == PluginSet(("c", "d"), ("b", "e"))


def test_without_a_project_there_is_nothing_to_select(project: Path) -> None:
    assert PluginSet.from_environment() == PluginSet()
    project.write_text("this is [no TOML, and no affair of ours")
    assert PluginSet.from_environment() == PluginSet()


def test_a_project_keeps_entries_out_of_a_registry(project: Path) -> None:
    project.write_text(f'[tool.tenonrt]\ndeny = ["{NUMPY}"]\n')
    states = {record.state for record in Registry().records() if record.entry.distribution == NUMPY}
    assert states == {"blocked"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.tenonrt\n", r"pyproject.toml is not TOML: .*line 1"),
        (
            '[tool.tenonrt]\nrequires = ["a"]\n',
            r"pyproject.toml: \[tool.tenonrt\] has no 'requires'; it has .*requi",
        ),
        ('[tool.tenonrt]\ndeny = "a"\n', r"pyproject.toml: deny of \[tool.tenonrt\] is 'a'; it must be a list"),
        ("[tool.tenonrt]\nallow = [1]\n", r"allow of \[tool.tenonrt\] is \[1\]"),
        ("[tool]\ntenonrt = 3\n", r"tool.tenonrt is 3; it must be a table"),
    ],
)
def test_a_mistake_is_named_with_file_and_field(project: Path, text: str, message: str) -> None:
    project.write_text(text)
    with pytest.raises(PluginError, match=message):
        PluginSet.from_environment()


@pytest.mark.parametrize(
    "text",
    [
        "[tool.tenonrt]\ndeny = ['a']",
        " [ tool . tenonrt ]\r\ndeny = ['a']",
        "[tool.\"tenonrt\"]\ndeny = ['a']",
        "['tool'.'tenonrt']\ndeny = ['a']",
        "[tool]\ntenonrt = {deny = ['a']}",
        "[tool]\n'tenonrt' . deny = ['a']",
        "tool.tenonrt.deny = ['a']",
        "tool = {x = 1, tenonrt = {deny = ['a']}}",
        "[tool.tenonrt.pins]\n[tool.tenonrt]\ndeny = ['a']",
        "x = 'tenonrt' # tenonrt.x, and then\n[tool.tenonrt]#\ndeny = ['a']",
    ],
)
def test_a_table_is_found_however_it_is_written(project: Path, text: str) -> None:
    project.write_bytes(text.encode())
    assert PluginSet.from_project(project) == PluginSet(deny=("a",))


@pytest.mark.parametrize(
    "text", ["dependencies = ['tenonrt>=1'", "['tenonrt.layers'", 'x = ["tenonrt.**"', "tenonrt-core"]
)
def test_a_project_that_only_names_us_is_not_parsed(project: Path, text: str) -> None:
    project.write_text(text)
    assert PluginSet.from_project(project) == PluginSet()


def test_an_absent_file_is_an_error_when_it_was_asked_for(project: Path) -> None:
    with pytest.raises(PluginError, match=r"pyproject.toml cannot be read"):
        PluginSet.from_project(project)


def test_all_that_is_missing_or_too_old_is_listed_with_the_command(project: Path) -> None:
    project.write_text(
        f'[tool.tenonrt]\nrequired = ["acme-absent", "{NUMPY}>=900", "numpy>=1", "acme-other[x]>=2,<3", '
        "\"acme-never; python_version < '3'\"]\n"
    )
    with pytest.raises(PluginError) as raised:
        Registry()
    assert str(raised.value) == (
        "the application requires what is not installed: acme-absent is missing; "
        f"{NUMPY} is {version(NUMPY)}, which '>=900' excludes; acme-other[x]<3,>=2 is missing. "
        f"Run: pip install acme-absent '{NUMPY}>=900' 'acme-other[x]<3,>=2'"
    )


def test_what_is_met_says_nothing_and_what_cannot_be_read_is_named() -> None:
    Registry(PluginSet(required=(f"{NUMPY}>=0.1", "numpy")))
    with pytest.raises(PluginError, match=r"'numpy>>1' is not written as pip has it"):
        Registry(PluginSet(required=("numpy>>1",)))
