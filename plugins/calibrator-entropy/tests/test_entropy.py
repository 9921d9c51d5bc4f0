"""The threshold against a plain transcription of the published steps, element by element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt_calibrator_entropy.entropy import EntropyCalibrator, best_bins, divergence


def transcribed_divergence(bins: Sequence[float], i: int) -> float:
    """P: bins[0..i) and the outliers in the last; Q: 128 levels, each spread over its bins that are not empty."""
    reference = list(bins[:i])
    reference[i - 1] += sum(bins[i:])
    width = i // 128
    candidate = [0.0] * i
    for level in range(128):
        start = level * width
        end = i if level == 127 else start + width
        total = sum(bins[start:end])
        filled = [k for k in range(start, end) if bins[k] > 0]
        for k in filled:
            candidate[k] = total / len(filled)
    whole, kept = sum(reference), sum(candidate)
    if whole <= 0 or kept <= 0:
        return math.inf
    result = 0.0
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            result += p / whole * math.log((p / whole) / (max(q, 1e-4) / kept))
    return result


def transcribed_best(bins: Sequence[float]) -> int:
    best, least = len(bins), math.inf
    for i in range(128, len(bins) + 1):
        found = transcribed_divergence(bins, i)
        if found <= least + 1e-12:
            best, least = i, min(found, least)
    return best


COUNTS = st.lists(st.one_of(st.just(0), st.integers(0, 1000)), min_size=300, max_size=300)


@settings(max_examples=30)
@given(COUNTS, st.integers(128, 300))
def test_divergence_is_the_published_one(counts: list[int], bins: int) -> None:
    expected, found = transcribed_divergence(counts, bins), divergence(np.array(counts, float), bins)
    assert found == expected or found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def _adversarial() -> list[tuple[str, list[float]]]:
    rng = np.random.default_rng(0)
    outlier = [0.0] * 300
    outlier[3], outlier[299] = 10000.0, 1.0
    falling = np.floor(1e4 * np.exp(-np.arange(300) / 30)).tolist()
    grey = [100.0 if k % 37 == 36 else 0.0 for k in range(300)]
    return [
        ("constant", [5.0] * 300), ("empty", [0.0] * 300), ("single", [0.0] * 299 + [7.0]), ("outlier", outlier),
        ("falling", falling), ("few values", grey), ("random", rng.integers(0, 99, 300).astype(float).tolist()),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "counts"), _adversarial(), ids=[name for name, _ in _adversarial()])
def test_threshold_is_the_published_one(name: str, counts: list[float]) -> None:
    assert best_bins(np.array(counts)) == transcribed_best(counts)


def _range(values: np.ndarray, **options: bool) -> float:
    calibrator = EntropyCalibrator(**options)
    calibrator.observe("x", values)
    return calibrator.ranges()["x"].upper


def test_an_outlier_is_cut_off() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
    assert _range(np.append(values, np.float32(100.0))) < 20.0


def test_zeros_do_not_count_unless_asked() -> None:
    values = np.maximum(np.random.default_rng(1).standard_normal(20000), 0).astype(np.float32)
    assert _range(values) == _range(values[values > 0])
    assert _range(values, zeros=True) < _range(values)


def test_tensors_without_information_keep_their_range() -> None:
    assert _range(np.zeros(10, np.float32)) == 0.0
    assert _range(np.full(10, -3.0, np.float32)) == pytest.approx(3.0)
    grey = np.random.default_rng(2).integers(0, 17, 1000).astype(np.float32) / 16
    assert _range(grey) == pytest.approx(1.0)
