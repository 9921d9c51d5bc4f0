"""What holds for the tests of every distribution."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Tests share the cores with each other: how long an example takes says nothing about what it tests.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")

_before = pytest.StashKey[dict[str, str | None]]()
_folder = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Let the many processes that tests start share what each would make again: machine code and bytecode.

    Set TENONRT_LLVM_OBJECTS to a folder that stays, and the next run compiles only what has changed.
    """
    if hasattr(config, "workerinput"):
        return  # inherited
    folder = Path(tempfile.mkdtemp(prefix="tenonrt-tests-"))
    shared: dict[str, str | None] = {"TENONRT_LLVM_OBJECTS": str(folder / "objects")}
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):  # beside the sources: elsewhere nobody minds
        shared |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": None}
    changed = {name: value for name, value in shared.items() if value is None or name not in os.environ}
    config.stash[_folder], config.stash[_before] = folder, {name: os.environ.get(name) for name in changed}
    _set(changed)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if _folder in config.stash:
        _set(config.stash[_before])
        shutil.rmtree(config.stash[_folder], ignore_errors=True)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
