"""Commands that pages name, inline or in blocks, exist and take the options that they are given there."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest
import typer
from tenonrt.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/decisions").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\btenonrt ([a-z]+)([^;|\n]*)")
SCRIPT = re.compile(r"\bpython (tests/benchmarks/\w+\.py)([^;|\n]*)")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*")


@lru_cache(maxsize=1)
def _group() -> app.Verbs:
    group = typer.main.get_command(app._root)
    assert isinstance(group, app.Verbs)
    return group


@lru_cache
def options(verb: str) -> frozenset[str]:
    """What a verb takes, the options of parsers and of its own verbs among it."""
    group = _group()
    context = group.make_context("tenonrt", [verb], resilient_parsing=True)
    _, command, _ = group.resolve_command(context, [verb, "MODEL"])
    parts = [command, *getattr(command, "commands", {}).values()]
    return frozenset({"-h", "--help"}.union(*(parameter.opts for part in parts for parameter in part.params)))


def named(page: Path, pattern: re.Pattern[str]) -> list[tuple[str, list[str]]]:
    """What code on a page calls, with the options given to it. Inline code may go on in the next line."""
    text = page.read_text(encoding="utf-8")
    code = [block for language, block in BLOCK.findall(text) if language == "sh"]
    code += [" ".join(inline.split()) for inline in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
    return [(found, OPTION.findall(rest)) for part in code for found, rest in pattern.findall(part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_take_their_options(page: Path) -> None:
    wrong = [
        f"tenonrt {verb} {option}"
        for verb, given in named(page, COMMAND)
        for option in given
        if verb not in _group().list_commands(None) or option not in options(verb)
    ]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_benchmarks_take_their_options(page: Path) -> None:
    """Read, not run: some need a GPU, all take long."""
    for script, given in named(page, SCRIPT):
        source = (ROOT / script).read_text(encoding="utf-8")
        shared = (ROOT / "tests/benchmarks/gpu.py").read_text(encoding="utf-8") if "gpu" in script else ""
        assert [option for option in given if f'"{option}"' not in source + shared] == [], script


def test_the_pages_name_commands() -> None:
    """Neither pattern has stopped finding what it is there to find."""
    verbs = {verb for page in PAGES for verb, given in named(page, COMMAND) if given}
    assert {"build", "inspect", "bench", "rank", "parse"} <= verbs
    assert len({script for page in PAGES for script, _ in named(page, SCRIPT)}) >= 4
