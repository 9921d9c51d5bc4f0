"""Least divergence as the first entropy calibrator seeks it, on the grid that int8 really has.

NVIDIA recommends its EntropyCalibration2 without publishing it. Here the levels are those of rounding: every bin goes
to the nearest of the 128 multiples of threshold / 127, and thresholds lie eight bins apart. Exact zeros do not count:
after a ReLU they would make saturating all others cheap.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Histogram, HistogramCalibrator

BINS, STEP = 2048, 8
_LARGEST = 127
_EMPTY = 1e-4  # what stands for a bin that no level reaches, in counts


class Entropy2Calibrator(HistogramCalibrator):
    """Magnitudes of 2048 bins in one pass."""

    algorithm: ClassVar[str] = "EntropyCalibration2"

    def limit(self, seen: Histogram) -> float:
        counts, width = seen.over(BINS)
        return best_bins(counts) * width


def best_bins(counts: Array) -> int:
    """Of how many of the bins the levels should be made; all where nothing is better."""
    counts = np.asarray(counts, np.float64)
    candidates = range(_LARGEST + 1, len(counts) + 1, STEP)
    found = [(divergence(counts, bins), -bins) for bins in candidates]
    best = min(found, default=(np.inf, -len(counts)))
    return -best[1] if np.isfinite(best[0]) else len(counts)


def divergence(counts: Array, bins: int) -> float:
    """Kullback-Leibler divergence of the levels from the distribution that saturates at ``bins`` bins."""
    wanted = counts[:bins].copy()
    wanted[-1] += counts[bins:].sum()
    levels = np.rint((np.arange(bins) + 0.5) * (_LARGEST / bins)).astype(np.int64)
    filled = wanted > 0
    sums = np.bincount(levels, counts[:bins], _LARGEST + 1)
    sizes = np.bincount(levels, filled.astype(np.float64), _LARGEST + 1)
    given = (sums / np.maximum(sizes, 1.0))[levels][filled]
    if given.sum() <= 0:
        return float("inf")
    p, q = wanted[filled] / wanted.sum(), np.maximum(given, _EMPTY) / given.sum()
    return float((p * np.log(p / q)).sum())
