"""Ranges of tensors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt_calibrator_min_max.min_max import MinMaxCalibrator

VALUES = np.random.default_rng(0).standard_normal(40000).astype(np.float32)


def found(values: np.ndarray, **options: float) -> float:
    calibrator = MinMaxCalibrator(**options)
    for part in np.array_split(values, 4):
        calibrator.observe("x", part)
    return calibrator.ranges()["x"].scale * 127


def test_nothing_to_see() -> None:
    assert found(np.zeros(8, np.float32)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        found(np.array([1, np.nan, 1, 1], np.float32))


def test_the_largest_magnitude() -> None:
    assert found(VALUES) == pytest.approx(np.abs(VALUES).max())
    calibrator = MinMaxCalibrator()
    calibrator.observe("x", np.array([1.0, 3.0], np.float32))
    assert (calibrator.ranges()["x"].lower, calibrator.ranges()["x"].upper) == (0.0, 3.0)
