from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tenonrt.contracts import Attributes, TensorInfo, TensorType, symbol
from tenonrt.dims import bounds, evaluate, symbols
from tenonrt_layer_shape.fill import FillAttributes, FillLayer
from tenonrt_layer_shape.nonzero import NonZeroLayer
from tenonrt_layer_shape.range import RangeLayer, count

N = symbol("N")
FILL, RANGE, NONZERO = FillLayer(), RangeLayer(), NonZeroLayer()


def host(value, dtype="int64"):
    value = np.asarray(value, object)
    return TensorInfo(TensorType(value.shape, dtype), "host", value)


def vector(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("layer", [FILL, RANGE, NONZERO])
def test_cases(check_cases, layer):
    check_cases(layer)


@pytest.mark.parametrize(("value", "dtype"), [(1.5, "float32"), (-3, "int64"), (True, "bool"), (2.5, "float16")])
@pytest.mark.parametrize("shape", [[2, 3], [], [0, 2]])
def test_fill_equals_onnxruntime(oracle, value, dtype, shape):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.array([value], dtype))
    shape = np.array(shape, np.int64)
    (expected,) = oracle("ConstantOfShape", [shape], value=tensor)
    (result,) = FILL.reference(FillAttributes(value, dtype), [shape], None)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=30, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), st.sampled_from(["float32", "bfloat16", "int8"]))
def test_fill_infer_agrees_with_reference(agrees, shape, dtype):
    agrees(FILL, FillAttributes(1, dtype), [np.array(shape, np.int64)])


def test_fill_with_symbols():
    def shape(info):
        return FILL.infer(FillAttributes(), [info])[0].shape

    assert shape(host(vector(N, 3))) == (N, 3)
    assert [next(symbols(d)).name for d in shape(TensorInfo(TensorType((2,), "int64")))] == ["?", "?"]
    with pytest.raises(ValueError, match=r"negative, found \[-1\]"):
        shape(host(vector(-1, 3)))
    with pytest.raises(ValueError, match=r"static length, found float32\[2\]"):
        shape(TensorInfo(TensorType((2,))))


def test_fill_of_known_shapes():
    (result,) = FILL.reference(FillAttributes(-1, "int64"), [vector(3)], None)
    assert (result.dtype, result.tolist()) == (object, [-1, -1, -1])
    with pytest.raises(ValueError, match="symbolic dimensions"):
        FILL.reference(FillAttributes(-1, "int64"), [vector(N)], None)
    with pytest.raises(ValueError, match="not strings"):
        FILL.infer(FillAttributes(0, "string"), [host(vector(1))])


@pytest.mark.parametrize(
    ("scalars", "dtype"),
    [
        ((0, 7, 2), "int64"),
        ((5, -6, -3), "int32"),
        ((3, 3, 1), "int16"),
        ((0, 1, 0.25), "float32"),
        ((2, -1, -0.5), "float64"),
    ],
)
def test_range_equals_onnxruntime(oracle, scalars, dtype):
    given_arrays = [np.array(v, dtype) for v in scalars]
    (result,) = RANGE.reference(Attributes(), given_arrays, None)
    (expected,) = oracle("Range", given_arrays)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(-20, 20), st.integers(-20, 20), st.integers(-5, 5).filter(bool))
def test_range_infer_agrees_with_reference(agrees, start, limit, delta):
    agrees(RANGE, Attributes(), [np.array(v, np.int64) for v in (start, limit, delta)])
    agrees(RANGE, Attributes(), [np.array(v / 3, np.float32) for v in (start, limit, delta)])
    symbolic = count(N + start, 2 * N + limit, delta)
    assert evaluate(symbolic, {"N": 4}) == len(range(4 + start, 8 + limit, delta))


def test_range_with_symbols():
    def length(*scalars):
        return RANGE.infer(Attributes(), [host(np.array(v, object)) for v in scalars])[0].shape[0]

    assert length(0, N, 1) == N
    assert length(N, N + 6, 2) == 3
    assert next(symbols(length(0, 5, N))).name == "?"
    unknown_limit = [host(0), TensorInfo(TensorType((), "int64")), host(1)]
    assert next(symbols(RANGE.infer(Attributes(), unknown_limit)[0].shape[0])).name == "?"


def test_range_of_known_values():
    (result,) = RANGE.reference(Attributes(), [np.array(v, object) for v in (N, N + 5, 2)], None)
    assert list(result) == [N, N + 2, N + 4]
    with pytest.raises(ValueError, match="symbolic length"):
        RANGE.reference(Attributes(), [np.array(v, object) for v in (0, N, 1)], None)


def test_range_refusals():
    with pytest.raises(ValueError, match="found int64, int64, float32"):
        RANGE.infer(Attributes(), [host(0), host(1), host(1.0, "float32")])
    with pytest.raises(ValueError, match=r"must be scalars, found int64\[2\]"):
        RANGE.infer(Attributes(), [host(vector(0, 1)), host(1), host(1)])
    with pytest.raises(ValueError, match="must not be zero"):
        RANGE.infer(Attributes(), [host(0), host(1), host(0)])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8"])
def test_nonzero_equals_onnxruntime(oracle, dtype):
    x = np.array([[0, 2, 0], [3, 0, 1]]).astype(dtype)
    (result,) = NONZERO.reference(Attributes(), [x], None)
    np.testing.assert_array_equal(result, oracle("NonZero", [x])[0])


@settings(max_examples=30, deadline=None)
@given(arrays(np.int32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.integers(0, 2)))
def test_nonzero_infer_agrees_with_reference(agrees, x):
    (result,) = agrees(NONZERO, Attributes(), [x])
    (inferred,) = NONZERO.infer(Attributes(), [TensorInfo(TensorType(x.shape, "int32"))])
    assert result.shape[1] <= bounds(inferred.shape[1])[1] or x.ndim == 0
    assert result.shape[1] == np.count_nonzero(x)


def test_nonzero_refuses_strings():
    with pytest.raises(ValueError, match=r"found string\[2\]"):
        NONZERO.infer(Attributes(), [TensorInfo(TensorType((2,), "string"))])
