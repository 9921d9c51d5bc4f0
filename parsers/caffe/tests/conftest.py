from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

NAME = "caffe_networks"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("networks.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


made = load()


@pytest.fixture
def networks() -> ModuleType:
    """How networks are made and run."""
    return made
