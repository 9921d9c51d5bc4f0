"""Everything here needs an NVIDIA GPU, and is skipped where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest


def _why_not() -> str:
    try:
        import cupy

        return "" if cupy.cuda.runtime.getDeviceCount() else "there is no NVIDIA GPU"
    except ImportError:
        return "CuPy is not installed"
    except Exception as error:  # noqa: BLE001 - CuPy raises errors of many kinds where it finds no driver
        return f"no NVIDIA GPU can be used: {error}"


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    why = _why_not()
    if why:
        for item in items:
            if "gpu" in item.path.parent.parts:
                item.add_marker(pytest.mark.skip(reason=why))
