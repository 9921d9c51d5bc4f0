"""Makes `interpretation.py` importable under a name that no other distribution's tests can have."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "triton_interpretation"

if NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("interpretation.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
