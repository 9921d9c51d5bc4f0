"""The magnitude that all but a few values stay below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tenonrt.contracts import Array, Calibrator, Histogram, Range


@dataclass
class PercentileCalibrator(Calibrator):
    """percentile: of the magnitudes, exact zeros included, 0 to 100."""

    percentile: float = 99.99
    algorithm: ClassVar[str] = "PercentileCalibration"
    _seen: dict[str, Histogram] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.percentile <= 100.0:
            raise ValueError(f"percentile is {self.percentile}, expected more than 0 and at most 100")

    def observe(self, tensor: str, values: Array) -> None:
        self._seen.setdefault(tensor, Histogram()).add(values)

    def ranges(self) -> Mapping[str, Range]:
        limits = {name: seen.quantile(self.percentile / 100.0) for name, seen in self._seen.items()}
        return {name: Range(-limit, limit, "calibrator") for name, limit in limits.items()}
