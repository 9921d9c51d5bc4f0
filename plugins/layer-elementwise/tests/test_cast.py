from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt_layer_elementwise.cast import CastAttributes, CastLayer

LAYER = CastLayer()
NUMBERS = ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool"]
N = symbol("N")


def compute(x, to, **attributes):
    return LAYER.reference(CastAttributes(to, **attributes), [x], None)[0]


def strings(*values):
    return np.array(values, object)


def code(dtype):
    onnx = pytest.importorskip("onnx")
    return onnx.TensorProto.STRING if dtype == "string" else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize("source", NUMBERS)
@pytest.mark.parametrize("target", NUMBERS)
def test_numbers_equal_onnxruntime(oracle, source, target):
    x = np.array([0, 1, 2, 3.75, 100, 127] if target[0] == "u" or source[0] == "u" else [0, 1, -2, -3.75, 2.5, 127])
    x = x.astype(source)
    (expected,) = oracle("Cast", [x], to=code(target))
    result = compute(x, target)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_integers_wrap_and_nan_is_true(oracle):
    x = np.array([200, -129, 65537], np.int32)
    np.testing.assert_array_equal(compute(x, "int8"), oracle("Cast", [x], to=code("int8"))[0])
    assert compute(np.array([np.nan, 0.0, -0.0]), "bool").tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "int64"])
def test_texts_equal_onnxruntime(oracle, dtype):
    values = (
        [0, 1, -2, 3.14159, 1e10, 1e-7, 0.1, np.nan, np.inf, -np.inf]
        if dtype == "float32"
        else [0, 1, -2, 3.140625, 100]
    )
    x = np.array(values).astype(dtype)
    (expected,) = oracle("Cast", [x], to=code("string"))
    assert compute(x, "string").tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_strings_parse_as_in_onnxruntime(oracle, dtype):
    texts = (
        strings("1", "20", "007")
        if dtype[0] in "iu"
        else strings("1", "-2.5", "1e-5", "1E8", "INF", "-inf", "NaN", "+INF")
    )
    (expected,) = oracle("Cast", [texts], to=code(dtype))
    result = compute(texts, dtype)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_fractions_in_strings_truncate_for_integers():
    assert compute(strings("100.5", "-3.9"), "int32").tolist() == [100, -3]


def test_large_integers_in_strings_are_exact():
    assert compute(strings("9007199254740993"), "int64").tolist() == [9007199254740993]


def test_words_are_no_numbers():
    with pytest.raises(ValueError, match=r"cannot be converted to float32: .*'ten'"):
        compute(strings("ten"), "float32")


@pytest.mark.parametrize("target", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
@pytest.mark.parametrize("saturate", [True, False])
def test_float8_follows_the_table_of_onnx(target, saturate):
    x = np.array([0, 1, -1.06, 200, np.nan, np.inf, -np.inf, 1e6, -1e6], np.float32)
    result = compute(x, target, saturate=saturate).astype(np.float64)
    largest = float(ml_dtypes.finfo(target).max)
    beyond = [largest, -largest, largest, -largest]
    if not saturate:
        beyond = [np.inf, -np.inf, np.inf, -np.inf] if target == "float8_e5m2" else [np.nan] * 4
    np.testing.assert_array_equal(result[4:], [np.nan, *beyond])
    inside = x[:4].astype(getattr(ml_dtypes, target)).astype(np.float64)
    np.testing.assert_array_equal(result[:4], inside)


@pytest.mark.parametrize("saturate", [True, False])
def test_float8_equals_onnxruntime(oracle, rng, saturate):
    onnx = pytest.importorskip("onnx")
    x = (rng.standard_normal(500) * np.exp(rng.uniform(-8, 5, 500))).astype(np.float32)
    x = x[np.abs(x) < 440]
    (expected,) = oracle("Cast", [x], to=onnx.TensorProto.FLOAT8E4M3FN, saturate=int(saturate))
    stored = expected.view(np.uint8) if expected.dtype.itemsize == 1 else expected
    np.testing.assert_array_equal(compute(x, "float8_e4m3fn", saturate=saturate).view(np.uint8), stored)


def test_exponents_round_up_and_saturate_or_round_to_nearest():
    x = np.array([1.0, 1.25, 1.5, 1.75, 3.0, 0.0, np.inf, np.nan], np.float32)
    up = compute(x, "float8_e8m0fnu").astype(np.float64)
    np.testing.assert_array_equal(up, [1, 2, 2, 2, 4, 2.0**-127, 2.0**127, np.nan])
    nearest = compute(x, "float8_e8m0fnu", saturate=False).astype(np.float64)
    np.testing.assert_array_equal(nearest, [1, 1, 2, 2, 4, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(("dtype", "expected"), [("int4", [-8, 7, -1, 0, 1]), ("uint4", [8, 7, 15, 0, 1])])
def test_small_integers_keep_their_low_bits(dtype, expected):
    assert compute(np.array([8, 7, 15, 16, 1], np.int32), dtype).astype(int).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(NUMBERS), st.sampled_from([*NUMBERS, "string"]), array_shapes(min_dims=0, max_side=4))
def test_infer_agrees_with_reference(agrees, source, target, shape):
    (result,) = agrees(LAYER, CastAttributes(target), [np.ones(shape, source)])
    if target == "string":
        agrees(LAYER, CastAttributes(source), [result])


def test_cases(check_cases):
    check_cases(LAYER)


def test_shape_arithmetic():
    x = np.array([N, 3, -1], object)
    assert list(compute(x, "int32")) == [N, 3, -1]
    assert list(compute(np.array([N + 1, 0, 2], object), "bool")) == [True, False, True]
    assert list(compute(np.array([2.9, -2.9], object), "int64")) == [2, -2]
    assert list(compute(np.array([2, 3], object), "float32")) == [2.0, 3.0]
    assert compute(np.array([0.1], object), "float32")[0] == float(np.float32(0.1))
    assert compute(np.array(N, object), "int64").shape == ()
    with pytest.raises(ValueError, match="symbolic dimension N cannot be converted to float32"):
        compute(x, "float32")


def test_places_of_strings():
    def place(source, target, given="device"):
        return LAYER.infer(CastAttributes(target), [TensorInfo(TensorType((2,), source), given)])[0].place

    assert place("int32", "string") == "host"
    assert place("string", "int32", "host") == "device"
    assert place("int64", "int32", "host") == "host"


def test_refusals():
    with pytest.raises(ValueError, match="unknown element type 'float33'"):
        LAYER.infer(CastAttributes("float33"), [TensorInfo(TensorType((2,)))])
    with pytest.raises(ValueError, match="complex"):
        LAYER.infer(CastAttributes("complex64"), [TensorInfo(TensorType((2,)))])
