"""What authors of calibrators write (group tenonrt.calibrators): the observer of tensors, and one that is a formula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from tenonrt.calibration.histogram import Histogram
from tenonrt.types import Array, Range


class Calibrator(ABC):
    """Finds the ranges of tensors from sample inputs. An instance serves one calibration; its fields are options."""

    # What a calibration cache calls it, after the product: ``EntropyCalibration2``.
    algorithm: ClassVar[str] = "Calibration"

    def numbers(self) -> tuple[float, ...]:
        """What a cache must have been made with besides: the legacy calibrator's cutoff and quantile."""
        return ()

    @abstractmethod
    def observe(self, tensor: str, values: Array) -> None:
        """Called for every tensor of every batch, in any order of batches; `ValueError` for values of no range."""

    @abstractmethod
    def ranges(self) -> Mapping[str, Range]:
        """The range of each tensor that was observed, by name; called once, after the last batch."""


@dataclass
class HistogramCalibrator(Calibrator):
    """A calibrator whose ranges are symmetric and follow from the distribution of a tensor's magnitudes alone.

    Subclasses that have options are dataclasses too.
    """

    _seen: dict[str, Histogram] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def limit(self, seen: Histogram) -> float:
        """The magnitude at which a tensor saturates; 0 where it had zeros only."""

    def observe(self, tensor: str, values: Array) -> None:
        """Count the magnitudes; `ValueError` for NaN and infinities."""
        self._seen.setdefault(tensor, Histogram()).add(values)

    def ranges(self) -> Mapping[str, Range]:
        """Each from minus its limit to its limit."""
        limits = {name: self.limit(seen) for name, seen in self._seen.items()}
        return {name: Range(-limit, limit, "calibrator") for name, limit in limits.items()}
