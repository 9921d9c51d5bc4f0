"""The vectorised error function against the C library's, one number at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import erf


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_erf_of_doubles(numbers: list[float]) -> None:
    expected = [math.erf(number) for number in numbers]
    np.testing.assert_allclose(erf(np.array(numbers)), expected, rtol=4e-16, atol=5e-324)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_keeps_dtype_and_shape_where_the_pieces_meet(dtype: type[np.floating]) -> None:
    points = np.array([0.0, -0.46875, 0.46875, np.nextafter(0.46875, 1), -4, 4, np.nextafter(4, 5), 30, -np.inf], dtype)
    result = erf(points.reshape(3, 3))
    assert result.dtype == dtype
    assert result.shape == (3, 3)
    np.testing.assert_allclose(result.reshape(-1), [math.erf(p) for p in points], rtol=4 * np.finfo(dtype).eps)


def test_erf_of_nan_and_of_a_scalar() -> None:
    assert np.isnan(erf(np.array([np.nan])))[0]
    assert float(erf(np.array(0.5))) == math.erf(0.5)
