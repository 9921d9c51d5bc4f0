"""Histograms of magnitudes in one pass: bins are joined in pairs whenever a larger value comes."""

from __future__ import annotations

import numpy as np

from tenonrt.types import Array

_FINE = 1 << 14  # bins kept while values come; at least half of them are in use


class Histogram:
    """Counts of |x| over [0, largest |x| seen]. Zeros are counted apart: what a ReLU cuts off is no evidence."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.zeros = 0
        self._counts = np.zeros(_FINE, np.int64)
        self._width = 0.0

    @property
    def count(self) -> int:
        """Values seen, zeros included."""
        return self.zeros + int(self._counts.sum())

    def add(self, values: Array) -> None:
        """Count all elements; `ValueError` for NaN and infinities."""
        sizes = np.abs(np.asarray(values, np.float64)).reshape(-1)
        if not np.isfinite(sizes).all():
            raise ValueError("it has values that are not finite, which have no range")
        largest = float(sizes.max(initial=0.0))
        sizes = sizes[sizes > 0]
        self.zeros += values.size - sizes.size
        if not sizes.size:
            return
        self._make_room(largest)
        places = np.minimum((sizes / self._width).astype(np.int64), _FINE - 1)
        self._counts += np.bincount(places, minlength=_FINE)
        self.largest = max(self.largest, largest)

    def _make_room(self, largest: float) -> None:
        if self._width == 0.0:
            self._width = max(largest / _FINE, np.finfo(np.float64).tiny)
        while largest > self._width * _FINE:
            joined = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.concatenate([joined, np.zeros(_FINE // 2, np.int64)])
            self._width *= 2

    def over(self, bins: int) -> tuple[Array, float]:
        """Counts of this many bins over [0, largest], and their width; a bin that is cut is shared by length."""
        if self.largest == 0.0:
            return np.zeros(bins), 0.0
        edges = np.linspace(0.0, self.largest, bins + 1)
        known = np.arange(_FINE + 1) * self._width
        below = np.interp(edges, known, np.concatenate([[0], np.cumsum(self._counts)]))
        below[-1] = self._counts.sum()
        return np.diff(below), self.largest / bins

    def quantile(self, share: float, *, with_zeros: bool = True) -> float:
        """The magnitude that a share of the values does not exceed, between the edges of a bin by length."""
        zeros = self.zeros if with_zeros else 0
        wanted = share * (zeros + int(self._counts.sum())) - zeros
        if wanted <= 0 or self.largest == 0.0:
            return 0.0
        below = np.concatenate([[0], np.cumsum(self._counts)])
        return min(self.largest, float(np.interp(wanted, below, np.arange(_FINE + 1) * self._width)))
