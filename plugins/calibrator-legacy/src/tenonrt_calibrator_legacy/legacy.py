"""TensorRT's first calibrator: a quantile of the magnitudes, moved towards the largest by a regression cutoff.

How NVIDIA's regression works is not published; that quantile 1 and cutoff 1 amount to the largest magnitude is. Here
the tail of the distribution above the quantile is taken to fall off exponentially, and the range ends where that line
has fallen to the share 1 - cutoff of what is left; cutoff 0 ends it at the quantile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Calibrator, Histogram, Range

BINS = 2048


@dataclass
class LegacyCalibrator(Calibrator):
    """quantile and cutoff: 0 to 1."""

    quantile: float = 0.9999
    cutoff: float = 0.5
    algorithm: ClassVar[str] = "LegacyCalibration"
    _seen: dict[str, Histogram] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name, value in (("quantile", self.quantile), ("cutoff", self.cutoff)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}, expected 0 to 1")

    def numbers(self) -> tuple[float, ...]:
        return self.cutoff, self.quantile

    def observe(self, tensor: str, values: Array) -> None:
        self._seen.setdefault(tensor, Histogram()).add(values)

    def ranges(self) -> Mapping[str, Range]:
        return {name: self._range(seen) for name, seen in self._seen.items()}

    def _range(self, seen: Histogram) -> Range:
        start = seen.quantile(self.quantile)
        limit = min(seen.largest, start + self._tail(seen, start))
        return Range(-limit, limit, "calibrator")

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
