"""Streaming histograms against NumPy's over all values at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tenonrt.contracts import Histogram

VALUES = arrays(np.float32, st.integers(0, 60), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


def test_one_batch_is_counted_as_numpy_counts() -> None:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    seen = Histogram()
    seen.add(values)
    counts, width = seen.over(2048)
    sizes = np.abs(values.astype(np.float64))
    expected, edges = np.histogram(sizes, 2048, (0, sizes.max()))
    assert width == pytest.approx(edges[1])
    assert np.abs(counts - expected).max() <= 1e-6


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_nothing_is_lost_when_bins_are_joined(batches: list[np.ndarray]) -> None:
    seen = Histogram()
    for values in batches:
        seen.add(values)
    whole = np.concatenate(batches)
    counts, width = seen.over(256)
    assert seen.count == whole.size
    assert seen.zeros == np.count_nonzero(whole == 0)
    assert counts.sum() == pytest.approx(whole.size - seen.zeros)
    assert seen.largest == np.abs(whole).max(initial=0.0)
    assert width * 256 == pytest.approx(seen.largest)
    # Bins of the stream are at most largest / 8192 wide, so the share below a value is right within one of them.
    middle = seen.quantile(0.5)
    slack = seen.largest / 8000
    assert np.mean(np.abs(whole) <= middle + slack) >= 0.5 if whole.size else middle == 0.0


def test_values_that_are_not_finite_are_refused() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            Histogram().add(np.array([1.0, value]))
