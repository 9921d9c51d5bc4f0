"""How far one array is from another, in numbers that people compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from tenonrt.types import Array

QUANTILES = (0.5, 0.9, 0.99)
BINS = 10


class ErrorSummary(msgspec.Struct, frozen=True):
    """Absolute errors of one tensor against the expected one.

    relative: the largest over max |expected|. quantiles: by share. cosine: of the angle between both, 1 when alike.
    histogram: counts of BINS equal bins from 0 to the largest error.
    """

    largest: float
    mean: float
    median: float
    quantiles: Mapping[float, float]
    cosine: float
    relative: float
    signal_to_noise: float  # decibels
    histogram: tuple[int, ...]
    count: int

    def passes(self, absolute: float, relative: float) -> bool:
        """Whether the largest error is within the tolerance, of which ``relative`` counts in max |expected|."""
        return self.largest <= absolute or self.relative <= relative


def summarize(found: Array, expected: Array) -> ErrorSummary:
    """`ValueError` for different shapes. Where NaN or infinite values differ, errors are infinite."""
    if found.shape != expected.shape:
        raise ValueError(f"found {list(found.shape)}, expected {list(expected.shape)}")
    a, b = (np.asarray(array, np.float64).reshape(-1) for array in (found, expected))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(a - b))
    errors = np.where(np.isnan(errors), np.inf, errors)
    if not errors.size:
        return ErrorSummary(0.0, 0.0, 0.0, dict.fromkeys(QUANTILES, 0.0), 1.0, 0.0, np.inf, (0,) * BINS, 0)
    largest, size = float(errors.max()), float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    bounded = errors[np.isfinite(errors)]
    counts = np.histogram(bounded, BINS, (0.0, max(float(bounded.max(initial=0.0)), 1e-300)))[0]
    noise = float((errors**2).sum())
    signal = float((np.nan_to_num(b, posinf=0.0, neginf=0.0) ** 2).sum())
    return ErrorSummary(
        largest, float(errors.mean()), _quantile(errors, 0.5),
        {share: _quantile(errors, share) for share in QUANTILES}, _cosine(a, b),
        largest / size if size else (0.0 if largest == 0 else np.inf),
        _decibels(signal, noise),
        tuple(int(count) for count in counts), errors.size,
    )  # fmt: skip


def _decibels(signal: float, noise: float) -> float:
    """Infinite without noise, minus infinite without a signal beside it."""
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal / noise > 0.0 else float("-inf")


def _quantile(errors: Array, share: float) -> float:
    """Between neighbours, unless one of them is infinite."""
    method: Literal["linear", "higher"] = "linear" if np.isfinite(errors).all() else "higher"
    return float(np.quantile(errors, share, method=method))


def _cosine(a: Array, b: Array) -> float:
    finite = np.isfinite(a) & np.isfinite(b)
    lengths = float(np.linalg.norm(a[finite]) * np.linalg.norm(b[finite]))
    if lengths == 0.0:
        return 1.0 if np.array_equal(a[finite], b[finite]) else 0.0
    return float(a[finite] @ b[finite]) / lengths


def worst(summaries: Sequence[ErrorSummary]) -> ErrorSummary:
    """The one with the largest error, of several batches of one tensor."""
    return max(summaries, key=lambda found: found.largest)
