"""The threshold at which rounding and saturating together cost the least mean squared error."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Histogram, HistogramCalibrator

BINS, STEP = 2048, 16
_LARGEST = 127


class MseCalibrator(HistogramCalibrator):
    """Every sixteenth of 2048 bins is tried as the threshold."""

    algorithm: ClassVar[str] = "MseCalibration"

    def limit(self, seen: Histogram) -> float:
        counts, width = seen.over(BINS)
        return best_bins(counts) * width


def best_bins(counts: Array) -> int:
    """Of how many bins the levels should be made; the values of a bin count as its middle."""
    candidates = range(STEP, len(counts) + 1, STEP)
    return min(candidates, key=lambda bins: (squared_error(counts, bins), -bins))


def squared_error(counts: Array, bins: int) -> float:
    """The sum over all values, in units of a squared bin, with 127 levels up to ``bins`` bins."""
    step = bins / _LARGEST
    middles = np.arange(len(counts)) + 0.5
    levels = np.minimum(np.rint(middles / step), _LARGEST) * step
    return float((counts * (middles - levels) ** 2).sum())
