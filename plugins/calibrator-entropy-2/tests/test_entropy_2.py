"""Ranges of tensors whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
from tenonrt_calibrator_entropy_2.entropy_2 import Entropy2Calibrator

VALUES = np.random.default_rng(0).standard_normal(40000).astype(np.float32)


def found(values: np.ndarray, **options: float) -> float:
    calibrator = Entropy2Calibrator(**options)
    for part in np.array_split(values, 4):
        calibrator.observe("x", part)
    return calibrator.ranges()["x"].scale * 127


def test_nothing_to_see() -> None:
    assert found(np.zeros(8, np.float32)) == 0.0
    with pytest.raises(ValueError, match="not finite"):
        found(np.array([1, np.nan, 1, 1], np.float32))


def test_an_outlier_is_cut_off_and_few_values_are_kept() -> None:
    assert found(np.append(VALUES, np.float32(100.0))) < 20.0
    grey = np.random.default_rng(2).integers(0, 17, 1000).astype(np.float32) / 16
    assert found(grey) == pytest.approx(1.0)


def test_levels_are_those_of_rounding() -> None:
    """Against a transcription in plain loops."""
    from tenonrt_calibrator_entropy_2.entropy_2 import divergence

    counts = np.random.default_rng(3).integers(1, 50, 300).astype(float)
    p = counts[:200].copy()
    p[-1] += counts[200:].sum()
    levels = [round((k + 0.5) * 127 / 200) for k in range(200)]
    q = np.array([np.mean([counts[j] for j in range(200) if levels[j] == levels[k]]) for k in range(200)])
    expected = float(np.sum(p / p.sum() * np.log((p / p.sum()) / (q / q.sum()))))
    assert divergence(counts, 200) == pytest.approx(expected)
