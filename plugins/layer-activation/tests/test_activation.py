from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType
from tenonrt_layer_activation.activation import ActivationAttributes, ActivationLayer
from tenonrt_layer_activation.functions import FUNCTIONS

LAYER = ActivationLayer()
X = np.concatenate([np.linspace(-12, 12, 97), [0.0, -0.0, 1e-9, -1e-9, 40, -40, 700, -700]])

# (function, alpha, beta, ONNX operator, its attributes)
ONNX = [
    ("relu", None, None, "Relu", {}),
    ("sigmoid", None, None, "Sigmoid", {}),
    ("tanh", None, None, "Tanh", {}),
    ("leaky_relu", None, None, "LeakyRelu", {}),
    ("leaky_relu", 0.3, None, "LeakyRelu", {"alpha": 0.3}),
    ("elu", None, None, "Elu", {}),
    ("elu", 0.7, None, "Elu", {"alpha": 0.7}),
    ("selu", None, None, "Selu", {}),
    ("selu", 2.0, 0.5, "Selu", {"alpha": 2.0, "gamma": 0.5}),
    ("celu", None, None, "Celu", {}),
    ("celu", 2.5, None, "Celu", {"alpha": 2.5}),
    ("softsign", None, None, "Softsign", {}),
    ("softplus", None, None, "Softplus", {}),
    ("hard_sigmoid", None, None, "HardSigmoid", {}),
    ("hard_sigmoid", 0.3, 0.1, "HardSigmoid", {"alpha": 0.3, "beta": 0.1}),
    ("thresholded_relu", None, None, "ThresholdedRelu", {}),
    ("thresholded_relu", 2.0, None, "ThresholdedRelu", {"alpha": 2.0}),
    ("gelu", None, None, "Gelu", {}),
    ("gelu_tanh", None, None, "Gelu", {"approximate": "tanh"}),
    ("hard_swish", None, None, "HardSwish", {}),
    ("mish", None, None, "Mish", {}),
    ("shrink", None, None, "Shrink", {}),
    ("shrink", 1.5, 0.25, "Shrink", {"lambd": 1.5, "bias": 0.25}),
]


def compute(function, x, alpha=None, beta=None):
    return LAYER.reference(ActivationAttributes(function, alpha, beta), [x], None)[0]


@pytest.mark.parametrize("example", ONNX)
def test_equals_onnxruntime(oracle, example):
    function, alpha, beta, operator, attributes = example
    x = X.astype(np.float32)
    (expected,) = oracle(operator, [x], **attributes)
    np.testing.assert_allclose(compute(function, x, alpha, beta), expected, rtol=3e-5, atol=3e-6)


def test_every_function_with_an_onnx_operator_is_compared():
    assert set(FUNCTIONS) - {f for f, *_ in ONNX} == {"clip", "scaled_tanh", "swish"}


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "uint8"])
@pytest.mark.parametrize(("low", "high"), [(1, 6), (None, 4), (2, None), (5, 3), (None, None)])
def test_clip_equals_onnxruntime(oracle, dtype, low, high):
    x = np.arange(12).astype(dtype)
    bounds = [None if b is None else np.array(b, dtype) for b in (low, high)]
    (expected,) = oracle("Clip", [x, *bounds])
    np.testing.assert_array_equal(compute("clip", x, low, high), expected)


def test_clip_bounds_outside_the_range_of_integers_are_no_bounds():
    x = np.array([-128, 0, 127], np.int8)
    np.testing.assert_array_equal(compute("clip", x, -1000.0, float("inf")), x)


def test_functions_without_operator_follow_their_formulas():
    expected = [0.5 * math.tanh(2 * v) for v in X]
    np.testing.assert_allclose(compute("scaled_tanh", X, 0.5, 2.0), expected, rtol=1e-14)
    x = X[np.abs(X) < 300]
    np.testing.assert_allclose(compute("swish", x, 1.5), [v / (1 + math.exp(-1.5 * v)) for v in x], rtol=1e-13)
    expected = [3 * (max(0.5 * v, 0) + math.log1p(math.exp(-abs(0.5 * v)))) for v in X]
    np.testing.assert_allclose(compute("softplus", X, 3.0, 0.5), expected, rtol=1e-13)


@pytest.mark.parametrize("function", sorted(set(FUNCTIONS) - {"thresholded_relu", "shrink"}))
def test_nan_propagates(function):
    assert np.isnan(compute(function, np.array([np.nan, 1.0])))[0]


@pytest.mark.parametrize("function", ["relu", "clip", "shrink"])
def test_nan_as_onnxruntime_has_it(oracle, function):
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    operator, arrays = {"relu": ("Relu", [x]), "shrink": ("Shrink", [x])}.get(
        function, ("Clip", [x, np.array(0, np.float32), np.array(1, np.float32)])
    )
    bounds = (0.0, 1.0) if function == "clip" else (None, None)
    (expected,) = oracle(operator, arrays)
    np.testing.assert_array_equal(compute(function, x, *bounds), expected)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_narrow_types_round_the_wide_result(function, dtype):
    x = np.linspace(-6, 6, 49).astype(dtype)
    got = compute(function, x)
    wide = compute(function, x.astype(np.float64))
    assert got.dtype == dtype
    eps = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(got.astype(np.float64), wide, rtol=4 * eps, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(FUNCTIONS)), array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
def test_infer_agrees_with_reference(agrees, function, shape):
    agrees(LAYER, ActivationAttributes(function), [np.zeros(shape, np.float32)])


def test_cases(check_cases):
    check_cases(LAYER)


@pytest.mark.parametrize(("function", "dtype"), [("gelu", "int32"), ("relu", "bool"), ("clip", "string")])
def test_refuses_other_element_types(function, dtype):
    with pytest.raises(ValueError, match=rf"{function} needs .* found {dtype}\[3\]"):
        LAYER.infer(ActivationAttributes(function), [TensorInfo(TensorType((3,), dtype))])


def test_refuses_an_unknown_function():
    with pytest.raises(ValueError, match="'reluu'; known are relu"):
        LAYER.infer(ActivationAttributes("reluu"), [TensorInfo(TensorType((3,)))])
