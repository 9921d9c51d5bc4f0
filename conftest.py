"""What holds for the tests of every distribution."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# Tests share the cores with each other: how long an example takes says nothing about what it tests.
settings.register_profile("shared cores", deadline=None)
settings.load_profile("shared cores")

# Tests build the same kernels over and over, in many processes: equal code is compiled once for all of them. Set the
# variable to a folder that stays, and the next run compiles what has changed.
_OBJECTS = "TENONRT_LLVM_OBJECTS"
_made = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder before workers are started, which inherit the variable."""
    if not os.environ.get(_OBJECTS):
        config.stash[_made] = os.environ[_OBJECTS] = tempfile.mkdtemp(prefix="tenonrt-objects-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder that this process made."""
    folder = config.stash.get(_made, None)
    if folder is not None:
        os.environ.pop(_OBJECTS, None)
        shutil.rmtree(folder, ignore_errors=True)
