from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, maximum, symbol
from tenonrt_layer_reduce.cumulative import CumulativeAttributes, CumulativeSumLayer
from tenonrt_layer_reduce.operations import OPERATIONS
from tenonrt_layer_reduce.reduce import ReduceAttributes, ReduceLayer

N, M = symbol("N"), symbol("M")
REDUCE, SUMS = ReduceLayer(), CumulativeSumLayer()
ONNX = {
    "sum": "ReduceSum", "prod": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin", "mean": "ReduceMean",
    "l1": "ReduceL1", "l2": "ReduceL2", "log_sum": "ReduceLogSum", "log_sum_exp": "ReduceLogSumExp",
    "sum_square": "ReduceSumSquare",
}  # fmt: skip


def info(*shape, dtype="float32"):
    return TensorInfo(TensorType(shape, dtype))


def compute(operation, x, axes=None, keep_dims=True):
    return REDUCE.reference(ReduceAttributes(operation, axes, keep_dims), [x], None)[0]


@pytest.mark.parametrize("layer", [REDUCE, SUMS])
def test_cases(check_cases, layer):
    check_cases(layer)


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("axes", [None, (1,), (-1, 0)])
@pytest.mark.parametrize("keep", [True, False])
def test_floats_equal_onnxruntime(oracle, rng, operation, axes, keep):
    x = (rng.standard_normal((3, 4, 5)) + (3 if operation == "log_sum" else 0)).astype(np.float32)
    inputs = [x] if axes is None else [x, np.array(axes)]
    (expected,) = oracle(ONNX[operation], inputs, opset=18, keepdims=int(keep))
    result = compute(operation, x, axes, keep)
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("operation", ["sum", "prod", "max", "min", "mean", "l1", "sum_square"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_equal_onnxruntime(oracle, rng, operation, dtype):
    if operation in {"l1", "sum_square"} and dtype == "int64":
        pytest.skip("ONNX Runtime has no such kernel")
    x = rng.integers(-4, 5, (3, 7)).astype(dtype)
    (expected,) = oracle(ONNX[operation], [x, np.array([1])], opset=18)
    result = compute(operation, x, (1,))
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_no_axes_only_transform_the_elements():
    x = np.array([[1.0, 4.0], [9.0, 0.25]])
    expected = {"l1": x, "l2": x, "sum_square": x * x, "log_sum": np.log(x)}
    for operation in OPERATIONS:
        np.testing.assert_allclose(compute(operation, x, ()), expected.get(operation, x), rtol=1e-15)
    np.testing.assert_array_equal(compute("l1", -x, ()), x)


def test_nothing_reduces_to_the_neutral_element():
    x = np.zeros((2, 0), np.float32)
    expected = {"sum": 0, "prod": 1, "max": -np.inf, "min": np.inf, "mean": np.nan, "l1": 0, "l2": 0}
    for operation, value in {**expected, "log_sum": -np.inf, "log_sum_exp": -np.inf, "sum_square": 0}.items():
        np.testing.assert_array_equal(compute(operation, x, (1,)), np.full((2, 1), value, np.float32))
    assert compute("max", np.zeros(0, np.int8)).tolist() == [-128]
    assert compute("min", np.zeros(0, np.uint8)).tolist() == [255]
    with pytest.raises(ValueError, match="mean of no integers"):
        compute("mean", np.zeros(0, np.int32))


def test_large_exponents_do_not_overflow():
    np.testing.assert_allclose(compute("log_sum_exp", np.array([1000.0, 1000.0])), [1000 + np.log(2)])
    np.testing.assert_array_equal(compute("log_sum_exp", np.array([-np.inf, -np.inf])), [-np.inf])
    np.testing.assert_array_equal(compute("log_sum_exp", np.array([np.inf, 0.0])), [np.inf])


@pytest.mark.parametrize("operation", ["max", "min", "sum", "log_sum_exp"])
def test_nan_propagates(operation):
    assert np.isnan(compute(operation, np.array([1.0, np.nan, 2.0]))).all()


def test_integer_mean_and_root_truncate():
    assert compute("mean", np.array([-3, 0])).tolist() == [-1]
    assert compute("l2", np.array([1, 1], np.int32)).tolist() == [1]
    assert compute("max", np.array([True, False])).tolist() == [True]


def test_narrow_floats_accumulate_wide():
    x = np.full(4096, 0.125, np.float16)
    assert compute("sum", x).tolist() == [512.0]
    assert compute("sum_square", np.full(2, 200, np.float16)).tolist() == [np.inf]
    assert compute("l2", np.full(2, 200, np.float16))[0] == np.float16(200 * 2**0.5)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.sampled_from(["float32", "float16", "bfloat16", "int32"]),
    array_shapes(min_dims=0, max_dims=4, max_side=4),
    st.data(),
)
def test_infer_agrees_with_reference(agrees, operation, dtype, shape, data):
    chosen = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(0, len(shape)))]
    axes = data.draw(st.sampled_from([None, tuple(a - len(shape) for a in chosen)]))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.ones(shape, getattr(ml_dtypes, dtype, dtype))
    attrs = ReduceAttributes(operation, axes, data.draw(st.booleans()))
    (result,) = agrees(REDUCE, attrs, [x])
    terms = REDUCE.reduction(attrs, [info(*shape)])
    assert terms * max(result.size, 1) == x.size
    if operation == "sum":
        np.testing.assert_array_equal(result.astype(np.float64), terms)


def test_symbols():
    def shape(*args):
        return REDUCE.infer(ReduceAttributes(*args), [info(N, 3, M)])[0].shape

    assert shape("sum", (0,), True) == (1, 3, M)
    assert shape("sum", (0, -1), False) == (3,)
    assert shape("sum") == (1, 1, 1)
    assert shape("sum", ()) == (N, 3, M)
    assert REDUCE.reduction(ReduceAttributes("sum", (0, 1)), [info(N, 3, M)]) == 3 * N
    assert REDUCE.reduction(ReduceAttributes("sum", ()), [info(N, 3, M)]) == 1


def test_known_values():
    x = np.array([[N, 2], [3, M]], object)
    assert compute("prod", x).tolist() == [[6 * N * M]]
    assert compute("sum", x, (0,)).tolist() == [[N + 3, M + 2]]
    assert compute("max", x, (1,), False).tolist() == [maximum(N, 2), maximum(3, M)]
    assert compute("min", np.array([4, 2], object), None, False).item() == 2
    assert compute("prod", x[0], None, False).shape == ()
    assert compute("sum", x, ()).tolist() == x.tolist()
    nothing = np.empty(0, object)
    assert [compute(name, nothing, None, False).item() for name in ("sum", "prod")] == [0, 1]
    with pytest.raises(ValueError, match="max of no dimensions"):
        compute("max", nothing)
    with pytest.raises(ValueError, match="l2 of symbolic dimensions"):
        compute("l2", x)


def test_refusals():
    with pytest.raises(ValueError, match=r"axes \[0, -2\] name an axis of a tensor of rank 2 twice"):
        REDUCE.infer(ReduceAttributes("sum", (0, -2)), [info(2, 3)])
    with pytest.raises(ValueError, match=r"sum takes real numbers .* found bool\[2\]"):
        REDUCE.infer(ReduceAttributes("sum"), [info(2, dtype="bool")])
    with pytest.raises(ValueError, match="unknown reduction 'median'"):
        REDUCE.infer(ReduceAttributes("median"), [info(2)])


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_running_sums_equal_onnxruntime(oracle, exclusive, reverse, dtype):
    x = np.arange(1, 25).reshape(2, 3, 4).astype(dtype)
    attrs = CumulativeAttributes(exclusive, reverse)
    for axis in (0, 1, -1):
        arrays = [x, np.array(axis, np.int64)]
        (expected,) = oracle("CumSum", arrays, exclusive=int(exclusive), reverse=int(reverse))
        (result,) = SUMS.reference(attrs, arrays, None)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=40, deadline=None)
@given(array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4), st.booleans(), st.booleans(), st.data())
def test_running_sums_infer_agrees_with_reference(agrees, shape, exclusive, reverse, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    attrs = CumulativeAttributes(exclusive, reverse)
    agrees(SUMS, attrs, [np.ones(shape, np.float16), np.array(axis, np.int64)])


def test_running_sums_refusals():
    axis = TensorInfo(TensorType((), "int64"), "host", np.array(2, object))
    with pytest.raises(ValueError, match="axis is 2, expected one of the 2 axes"):
        SUMS.infer(CumulativeAttributes(), [info(2, 3), axis])
    with pytest.raises(ValueError, match=r"integer scalar, found int64\[2\]"):
        SUMS.infer(CumulativeAttributes(), [info(2, 3), info(2, dtype="int64")])
