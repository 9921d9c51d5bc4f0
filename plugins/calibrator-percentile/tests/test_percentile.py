"""Ranges of tensors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt_calibrator_percentile.percentile import PercentileCalibrator

VALUES = np.random.default_rng(0).standard_normal(40000).astype(np.float32)


def found(values: np.ndarray, **options: float) -> float:
    calibrator = PercentileCalibrator(**options)
    for part in np.array_split(values, 4):
        calibrator.observe("x", part)
    return calibrator.ranges()["x"].scale * 127


def test_nothing_to_see() -> None:
    assert found(np.zeros(8, np.float32)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        found(np.array([1, np.nan, 1, 1], np.float32))


@pytest.mark.parametrize("percentile", [50.0, 99.0, 99.99, 100.0])
def test_the_percentile_of_numpy(percentile: float) -> None:
    expected = np.percentile(np.abs(VALUES), percentile)
    assert found(VALUES, percentile=percentile) == pytest.approx(expected, abs=np.abs(VALUES).max() / 4000)


def test_percentiles_that_are_none() -> None:
    with pytest.raises(ValueError, match="percentile is 0"):
        PercentileCalibrator(0.0)
