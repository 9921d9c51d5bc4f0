"""Ranges of tensors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt_calibrator_mse.mse import MseCalibrator

VALUES = np.random.default_rng(0).standard_normal(40000).astype(np.float32)


def found(values: np.ndarray, **options: float) -> float:
    calibrator = MseCalibrator(**options)
    for part in np.array_split(values, 4):
        calibrator.observe("x", part)
    return calibrator.ranges()["x"].scale * 127


def test_nothing_to_see() -> None:
    assert found(np.zeros(8, np.float32)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        found(np.array([1, np.nan, 1, 1], np.float32))


def test_no_other_threshold_has_a_smaller_error() -> None:
    values = np.random.default_rng(1).laplace(size=40000).astype(np.float32)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.mean((np.clip(np.rint(np.abs(values) / step), 0, 127) * step - np.abs(values)) ** 2))

    best = min(error(limit) for limit in np.linspace(0.05, 1.0, 96) * np.abs(values).max())
    assert error(found(values)) <= 1.02 * best
