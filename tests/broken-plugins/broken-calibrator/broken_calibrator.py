"""A calibrator without `ranges`, and one whose instances share what they have seen."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Calibrator, Range


class Abstract(Calibrator):
    """Has no `ranges`, so that none can be made."""

    def observe(self, tensor: str, values: Any) -> None:
        pass


class Shared(Calibrator):
    """The largest magnitude of all calibrations, NaN included."""

    seen: ClassVar[dict[str, float]] = {}

    def observe(self, tensor: str, values: Any) -> None:
        self.seen[tensor] = max(self.seen.get(tensor, 0.0), float(np.abs(values).max()))

    def ranges(self) -> dict[str, Range]:
        return {name: Range(-limit, limit, "calibrator") for name, limit in self.seen.items()}
