"""The magnitude that all but a few values stay below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tenonrt.contracts import Histogram, HistogramCalibrator


@dataclass
class PercentileCalibrator(HistogramCalibrator):
    """percentile: of the magnitudes, exact zeros included, 0 to 100."""

    percentile: float = 99.99
    algorithm: ClassVar[str] = "PercentileCalibration"

    def __post_init__(self) -> None:
        if not 0.0 < self.percentile <= 100.0:
            raise ValueError(f"percentile is {self.percentile}, expected more than 0 and at most 100")

    def limit(self, seen: Histogram) -> float:
        return seen.quantile(self.percentile / 100.0)
