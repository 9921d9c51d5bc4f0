"""The largest magnitude that was seen: nothing saturates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from tenonrt.contracts import Array, Calibrator, Range


@dataclass
class MinMaxCalibrator(Calibrator):
    """The interval of all values."""

    algorithm: ClassVar[str] = "MinMaxCalibration"
    _seen: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)

    def observe(self, tensor: str, values: Array) -> None:
        if not np.isfinite(values).all():
            raise ValueError("it has values that are not finite, which have no range")
        lower, upper = self._seen.get(tensor, (0.0, 0.0))
        self._seen[tensor] = (
            min(lower, float(np.min(values, initial=0.0))),
            max(upper, float(np.max(values, initial=0.0))),
        )

    def ranges(self) -> Mapping[str, Range]:
        return {name: Range(*seen, "calibrator") for name, seen in self._seen.items()}
