"""Makes what tests share importable under names that no other distribution's tests can have."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAMES = {"nvrtc_fibers": "fibers.py", "nvrtc_emulation": "emulation.py", "nvrtc_clusters": "clusters.py"}

for name, file in NAMES.items():
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
