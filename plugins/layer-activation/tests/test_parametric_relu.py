from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import Attributes, TensorInfo, TensorType
from tenonrt_layer_activation.parametric_relu import ParametricReluLayer

LAYER = ParametricReluLayer()


@pytest.mark.parametrize("slope", [(3, 1, 1), (1,), (5,), (2, 3, 4, 5)])
def test_equals_onnxruntime(oracle, rng, slope):
    x = (rng.standard_normal((2, 3, 4, 5)) * 5).astype(np.float32)
    slopes = rng.standard_normal(slope).astype(np.float32)
    (expected,) = oracle("PRelu", [x, slopes])
    np.testing.assert_array_equal(LAYER.reference(Attributes(), [x, slopes], None)[0], expected)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_other_types_follow_the_formula(dtype):
    x = np.array([[-3, 2, -1], [0, -5, 4]], dtype)
    (y,) = LAYER.reference(Attributes(), [x, np.array([2, 3, -4], dtype)], None)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [[-6, 2, 4], [0, -15, 4]])


@settings(max_examples=40, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), st.data())
def test_infer_agrees_with_reference(agrees, shape, data):
    tail = shape[data.draw(st.integers(0, len(shape))) :]
    slope = tuple(data.draw(st.sampled_from([1, d])) for d in tail)
    agrees(LAYER, Attributes(), [np.ones(shape, np.float32), np.ones(slope, np.float32)])


def test_cases(check_cases):
    check_cases(LAYER)


@pytest.mark.parametrize("slope", [(2,), (4, 1, 1), (1, 1, 3)])
def test_refuses_a_slope_that_does_not_fit(slope):
    with pytest.raises(ValueError, match=r"does not broadcast to the input float32\[4x3\]"):
        LAYER.infer(Attributes(), [TensorInfo(TensorType((4, 3))), TensorInfo(TensorType(slope))])


def test_refuses_mixed_types():
    with pytest.raises(ValueError, match="found float32 and float16"):
        LAYER.infer(Attributes(), [TensorInfo(TensorType((3,))), TensorInfo(TensorType((3,), "float16"))])
