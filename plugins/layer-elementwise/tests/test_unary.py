from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, maximum, symbol
from tenonrt_layer_elementwise.unary import OPERATIONS, UnaryAttributes, UnaryLayer

LAYER = UnaryLayer()
N = symbol("N")

ONNX = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "recip": "Reciprocal", "abs": "Abs", "neg": "Neg", "sin": "Sin",
    "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "ceil": "Ceil", "floor": "Floor", "round": "Round",
    "sign": "Sign", "erf": "Erf", "not": "Not", "bitwise_not": "BitwiseNot", "is_nan": "IsNaN", "is_inf": "IsInf",
}  # fmt: skip


def compute(operation, x, **attributes):
    return LAYER.reference(UnaryAttributes(operation, **attributes), [x], None)[0]


def test_every_operation_is_compared_with_onnxruntime():
    assert set(ONNX) == set(OPERATIONS)


@pytest.mark.parametrize("operation", sorted(set(ONNX) - {"not", "bitwise_not"}))
def test_floats_equal_onnxruntime(oracle, operation):
    x = np.concatenate([np.linspace(-4, 4, 129), [0.0, -0.0, np.inf, -np.inf, np.nan]]).astype(np.float32)
    (expected,) = oracle(ONNX[operation], [x], opset=20)
    result = compute(operation, x)
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result, expected, rtol=3e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
@pytest.mark.parametrize("operation", ["abs", "neg", "sign", "bitwise_not"])
def test_integers_equal_onnxruntime(oracle, operation, dtype):
    x = np.arange(-5, 6).astype(dtype)
    np.testing.assert_array_equal(compute(operation, x), oracle(ONNX[operation], [x])[0])


def test_not_equals_onnxruntime(oracle):
    x = np.array([True, False])
    np.testing.assert_array_equal(compute("not", x), oracle("Not", [x])[0])


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("negative", [True, False])
def test_is_inf_looks_for_the_chosen_signs(oracle, positive, negative):
    x = np.array([np.inf, -np.inf, np.nan, 1], np.float32)
    (expected,) = oracle("IsInf", [x], detect_positive=int(positive), detect_negative=int(negative))
    result = compute("is_inf", x, detect_positive=positive, detect_negative=negative)
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(OPERATIONS), array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), st.data())
def test_infer_agrees_with_reference(agrees, operation, shape, data):
    dtype = {"not": "bool", "bitwise_not": "int32"}.get(operation)
    dtype = dtype or data.draw(st.sampled_from(["float16", "float32", "float64"]))
    agrees(LAYER, UnaryAttributes(operation), [np.ones(shape, dtype)])


@pytest.mark.parametrize("operation", ["exp", "erf", "round", "sign", "is_nan"])
def test_bfloat16_keeps_its_type(agrees, operation):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([-1.5, 0.25, 2.5]).astype(ml_dtypes.bfloat16)
    (result,) = agrees(LAYER, UnaryAttributes(operation), [x])
    wide = compute(operation, x.astype(np.float64))
    np.testing.assert_array_equal(result, wide.astype(result.dtype))


def test_cases(check_cases):
    check_cases(LAYER)


def test_shape_arithmetic():
    x = np.empty(3, object)
    x[:] = [N, 3 - N, -2]
    assert list(compute("neg", x)) == [-N, N - 3, 2]
    assert list(compute("abs", x)) == [N, maximum(3 - N, N - 3), 2]
    assert list(compute("floor", x)) == list(x)
    assert list(compute("sign", np.array([N + 1, -4, 2.5], object))) == [1, -1, 1.0]
    assert list(compute("round", np.array([2.5, 3.5], object))) == [2.0, 4.0]
    assert list(compute("not", np.array([True, False], object))) == [False, True]
    assert compute("sqrt", np.array(9.0, object)).item() == 3.0
    assert compute("sqrt", np.array(9.0, object)).dtype == object
    with pytest.raises(ValueError, match="sqrt of the symbolic dimension N"):
        compute("sqrt", x[:1])


@pytest.mark.parametrize(
    ("operation", "dtype", "kinds"),
    [
        ("exp", "int32", "float"),
        ("not", "int8", "bool"),
        ("bitwise_not", "bool", "integer"),
        ("abs", "bool", "float or integer"),
    ],
)
def test_refuses_other_element_types(operation, dtype, kinds):
    with pytest.raises(ValueError, match=rf"{operation} takes {kinds} tensors, found {dtype}\[2\]"):
        LAYER.infer(UnaryAttributes(operation), [TensorInfo(TensorType((2,), dtype))])


def test_refuses_an_unknown_operation():
    with pytest.raises(ValueError, match="unknown unary operation 'cbrt'"):
        LAYER.infer(UnaryAttributes("cbrt"), [TensorInfo(TensorType((2,)))])
