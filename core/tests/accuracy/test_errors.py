"""Error summaries against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tenonrt.accuracy.errors import summarize

PAIRS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*[arrays(np.float32, n, elements=st.floats(-100, 100, width=32))] * 2)
)


@given(PAIRS)
def test_numbers_are_those_of_numpy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found, expected = (array.astype(np.float64) for array in pair)
    summary = summarize(*pair)
    errors = np.abs(found - expected)
    assert summary.largest == errors.max()
    assert summary.mean == pytest.approx(errors.mean())
    assert summary.median == pytest.approx(np.median(errors))
    assert summary.quantiles[0.9] == pytest.approx(np.quantile(errors, 0.9))
    assert sum(summary.histogram) == summary.count == errors.size
    lengths = np.linalg.norm(found) * np.linalg.norm(expected)
    if lengths > 1e-20:
        assert summary.cosine == pytest.approx(found @ expected / lengths)


def test_special_values() -> None:
    values = np.array([np.nan, np.inf, 1.0])
    assert summarize(values, values).largest == 0.0
    assert summarize(values, np.array([0.0, np.inf, 1.0])).largest == np.inf
    assert summarize(np.zeros(0), np.zeros(0)).cosine == 1.0
    assert summarize(np.zeros(3), np.zeros(3)).passes(0.0, 0.0)
    with pytest.raises(ValueError, match=r"found \[2\], expected \[3\]"):
        summarize(np.zeros(2), np.zeros(3))


def test_either_tolerance_suffices() -> None:
    summary = summarize(np.array([1.0, 101.0]), np.array([1.0, 100.0]))
    assert summary.passes(1.0, 0.0)
    assert summary.passes(0.0, 0.02)
    assert not summary.passes(0.5, 0.005)
