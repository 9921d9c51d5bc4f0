"""Ranges of tensors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt_calibrator_legacy.legacy import LegacyCalibrator

VALUES = np.random.default_rng(0).standard_normal(40000).astype(np.float32)


def found(values: np.ndarray, **options: float) -> float:
    calibrator = LegacyCalibrator(**options)
    for part in np.array_split(values, 4):
        calibrator.observe("x", part)
    return calibrator.ranges()["x"].scale * 127


def test_nothing_to_see() -> None:
    assert found(np.zeros(8, np.float32)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        found(np.array([1, np.nan, 1, 1], np.float32))


def test_quantile_and_cutoff() -> None:
    assert found(VALUES, quantile=1.0, cutoff=1.0) == pytest.approx(np.abs(VALUES).max())
    quantile = np.quantile(np.abs(VALUES), 0.99)
    assert found(VALUES, quantile=0.99, cutoff=0.0) == pytest.approx(quantile, rel=2e-3)
    assert quantile < found(VALUES, quantile=0.99, cutoff=0.5) < np.abs(VALUES).max()


def test_numbers_that_are_none() -> None:
    with pytest.raises(ValueError, match="cutoff is 2"):
        LegacyCalibrator(cutoff=2.0)
    assert LegacyCalibrator(0.9, 0.4).numbers() == (0.4, 0.9)
