"""TensorRT's first calibrator: a quantile of the magnitudes, moved towards the largest by a regression cutoff.

How NVIDIA's regression works is not published; that quantile 1 and cutoff 1 amount to the largest magnitude is. Here
the tail of the distribution above the quantile is taken to fall off exponentially, and the range ends where that line
has fallen to the share 1 - cutoff of what is left; cutoff 0 ends it at the quantile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from tenonrt.contracts import Histogram, HistogramCalibrator

BINS = 2048


@dataclass
class LegacyCalibrator(HistogramCalibrator):
    """quantile and cutoff: 0 to 1."""

    quantile: float = 0.9999
    cutoff: float = 0.5
    algorithm: ClassVar[str] = "LegacyCalibration"

    def __post_init__(self) -> None:
        for name, value in (("quantile", self.quantile), ("cutoff", self.cutoff)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}, expected 0 to 1")

    def numbers(self) -> tuple[float, ...]:
        return self.cutoff, self.quantile

    def limit(self, seen: Histogram) -> float:
        start = seen.quantile(self.quantile)
        return min(seen.largest, start + self._tail(seen, start))

    def _tail(self, seen: Histogram, start: float) -> float:
        """How far beyond the quantile the range goes."""
        if self.cutoff >= 1.0:
            return seen.largest - start
        counts, width = seen.over(BINS)
        middles = (np.arange(BINS) + 0.5) * width
        beyond = middles > start
        if not counts[beyond].sum():
            return 0.0
        length = float(np.average(middles[beyond] - start, weights=counts[beyond]))
        return -length * math.log1p(-self.cutoff)
