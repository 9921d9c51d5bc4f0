"""Calibrators: from sample values to ranges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tenonrt.contracts import Calibrator
from tenonrt.plugins.discovery import Entry

from tenonrt_testing.subjects import load

GROUP = "tenonrt.calibrators"


def make(entry: Entry) -> Calibrator:
    made = load(entry)()
    assert isinstance(made, Calibrator), f"{entry.value} makes {type(made).__name__}, which is no Calibrator"
    return made


def batches(seed: int, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    """Three batches of values of either sign, of none below zero, and of zeros alone."""
    rng = np.random.default_rng(seed)
    drawn = [(rng.standard_normal((4, 3, 8, 8)) * scale).astype(np.float32) for _ in range(3)]
    return [{"signed": x, "positive": np.maximum(x, 0), "zeros": np.zeros_like(x)} for x in drawn]


def observed(calibrator: Calibrator, shown: list[dict[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    for batch in shown:
        for name, values in batch.items():
            calibrator.observe(name, values)
    return {name: (found.lower, found.upper) for name, found in calibrator.ranges().items()}


def test_is_made_without_options(entry: Entry) -> None:
    """The entry point makes a `Calibrator` when it is called without arguments.

    When this fails: a method of the base class is not defined, the class is another one, or an option has no default.
    """
    make(entry)


def test_every_tensor_gets_a_range(entry: Entry) -> None:
    """`ranges` has an interval of finite numbers for each tensor that was observed, and for no other.

    When this fails: a tensor is missing and its layers would stay in float32, or an interval is reversed or not finite.
    """
    found = observed(make(entry), batches(0))
    assert set(found) == {"signed", "positive", "zeros"}
    bad = {name: pair for name, pair in found.items() if not (all(map(math.isfinite, pair)) and pair[0] <= pair[1])}
    assert not bad, f"no intervals of finite numbers: {bad}"
    assert found["signed"][1] > 0, "values of either sign have an upper end of 0 or less"


def test_ranges_grow_with_the_values(entry: Entry) -> None:
    """Values a thousand times as large have a larger range: samples decide, and nothing of an earlier calibration.

    When this fails: ranges do not depend on what was observed, or instances share what they have seen.
    """
    large = observed(make(entry), batches(1, 1000.0))
    small = observed(make(entry), batches(1))
    assert small["signed"][1] < large["signed"][1]


def test_values_of_no_range_are_refused(entry: Entry) -> None:
    """`observe` raises `ValueError` for NaN and infinities.

    When this fails: one bad sample makes a scale that is not a number, and every result with it.
    """
    for value in (math.nan, math.inf):
        calibrator = make(entry)
        with pytest.raises(ValueError):  # noqa: PT011 - the words are the author's
            calibrator.observe("x", np.array([1.0, value], np.float32))
