"""A calibrator that is a formula over the distribution of magnitudes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tenonrt.contracts import Histogram, HistogramCalibrator, Range


@dataclass
class Share(HistogramCalibrator):
    """A share of the largest magnitude."""

    share: float = 1.0

    def limit(self, seen: Histogram) -> float:
        return self.share * seen.largest


VALUES = arrays.arrays(np.float32, arrays.array_shapes(max_dims=4, min_side=0), elements=st.floats(-8, 8, width=32))


@given(st.lists(VALUES, min_size=1, max_size=4), st.sampled_from([0.5, 1.0]))
def test_ranges_are_symmetric_and_of_all_batches(batches: list[np.ndarray], share: float) -> None:
    calibrator = Share(share)
    for batch in batches:
        calibrator.observe("x", batch)
    calibrator.observe("other", np.full(3, 100.0, np.float32))
    largest = max(float(np.abs(batch).max(initial=0.0)) for batch in batches)
    assert calibrator.ranges()["x"] == Range(-share * largest, share * largest, "calibrator")
    assert calibrator.ranges()["other"].upper == share * 100.0


def test_each_calibration_counts_for_itself() -> None:
    first = Share()
    first.observe("x", np.ones(3, np.float32))
    assert Share().ranges() == {}
    assert repr(first) == "Share(share=1.0)"


def test_values_without_a_range_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Share().observe("x", np.array([1.0, np.inf], np.float32))


def test_the_formula_is_required() -> None:
    with pytest.raises(TypeError, match="limit"):
        HistogramCalibrator()  # type: ignore[abstract]
