"""The threshold at which 128 levels tell most of a distribution of magnitudes.

Szymon Migacz, "8-bit inference with TensorRT", GTC 2017: of all thresholds the one whose quantized distribution has the
least Kullback-Leibler divergence from the distribution that saturates there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Histogram, HistogramCalibrator

BINS, LEVELS = 2048, 128
# What stands for the probability of a bin that the levels leave empty, in counts: an infinite divergence would let one
# outlier decide.
EMPTY = 1e-4
TIE = 1e-12  # divergences that differ by no more are equal


@dataclass
class EntropyCalibrator(HistogramCalibrator):
    """Magnitudes of 2048 bins in one pass. zeros: whether exact zeros count, which ReLUs make many of."""

    zeros: bool = False
    algorithm: ClassVar[str] = "EntropyCalibration"

    def limit(self, seen: Histogram) -> float:
        counts, width = seen.over(BINS)
        if self.zeros:
            counts[0] += seen.zeros
        return min(seen.largest, (best_bins(counts) + 0.5) * width) if width else 0.0


def best_bins(counts: Array) -> int:
    """How many of the bins (2048) the threshold of least divergence leaves; all where there is nothing to tell.

    Of equals the largest: where values are few and far apart, as of an image of 16 grey levels, a threshold that keeps
    a single one of them diverges from nothing, and neither does one that keeps them all.
    """
    counts = np.asarray(counts, np.float64)
    best, least = len(counts), np.inf
    for bins in range(LEVELS, len(counts) + 1):
        found = divergence(counts, bins)
        if found <= least + TIE:
            best, least = bins, min(found, least)
    return best


def divergence(counts: Array, bins: int) -> float:
    """Kullback-Leibler divergence of the levels from the distribution saturated at ``bins`` bins; infinite for none.

    The last level takes the bins that do not divide evenly; each level's sum is spread over its bins with counts.
    """
    inside = counts[:bins]
    wanted = inside.copy()
    wanted[-1] += counts[bins:].sum()
    starts = np.arange(LEVELS) * (bins // LEVELS)
    filled = inside > 0
    sums, sizes = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(np.int64), starts)
    lengths = np.diff(np.append(starts, bins))
    levels = np.repeat(np.where(sizes > 0, sums / np.maximum(sizes, 1), 0.0), lengths)
    given = np.where(filled, levels, 0.0)
    total, whole = given.sum(), wanted.sum()
    if total <= 0 or whole <= 0:
        return float("inf")
    at = wanted > 0
    p, q = wanted[at] / whole, np.maximum(given[at], EMPTY) / total
    return float((p * np.log(p / q)).sum())
