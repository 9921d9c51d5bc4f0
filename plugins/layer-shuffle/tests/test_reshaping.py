from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, View, symbol
from tenonrt.dims import symbols
from tenonrt_layer_shuffle.flatten import FlattenAttributes, FlattenLayer
from tenonrt_layer_shuffle.reshape import ReshapeAttributes, ReshapeLayer
from tenonrt_layer_shuffle.squeeze import SqueezeAttributes, SqueezeLayer
from tenonrt_layer_shuffle.unsqueeze import UnsqueezeAttributes, UnsqueezeLayer

N, M = symbol("N"), symbol("M")
RESHAPE = ReshapeLayer()


def info(*shape):
    return TensorInfo(TensorType(shape))


def host(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return TensorInfo(TensorType((len(values),), "int64"), "host", array)


def reshaped(shape, wanted, **attributes):
    return RESHAPE.infer(ReshapeAttributes(**attributes), [info(*shape), host(*wanted)])[0].shape


@pytest.mark.parametrize("layer", [RESHAPE, SqueezeLayer(), UnsqueezeLayer(), FlattenLayer()])
def test_cases(check_cases, layer):
    check_cases(layer)
    assert layer.view(None, [info(2)], [info(2)]) == View()


@pytest.mark.parametrize("wanted", [[4, 6], [0, -1], [-1], [2, 0, 2, 2], [0, 0, 0], [1, -1, 1]])
def test_reshape_equals_onnxruntime(oracle, wanted):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    shape = np.array(wanted)
    (result,) = RESHAPE.reference(ReshapeAttributes(), [x, shape], None)
    np.testing.assert_array_equal(result, oracle("Reshape", [x, shape])[0])


def test_reshape_with_real_zeros_equals_onnxruntime(oracle):
    x, shape = np.zeros((0, 3), np.float32), np.array([3, 0])
    (result,) = RESHAPE.reference(ReshapeAttributes(zero_copies=False), [x, shape], None)
    assert result.shape == oracle("Reshape", [x, shape], allowzero=1)[0].shape


@settings(max_examples=60, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, max_side=4), st.data())
def test_reshape_infer_agrees_with_reference(agrees, shape, data):
    factors = data.draw(st.permutations([f for d in shape for f in ([2, 2] if d == 4 else [d])]))
    wanted = list(factors)
    if wanted and data.draw(st.booleans()):
        wanted[data.draw(st.integers(0, len(wanted) - 1))] = -1
    arrays = [np.zeros(shape, np.float32), np.array(wanted, np.int64)]
    (result,) = agrees(RESHAPE, ReshapeAttributes(), arrays, symbolic=False)
    assert result.shape == tuple(factors)


def test_reshape_infers_symbols():
    assert reshaped((N, 3, 4), (0, -1)) == (N, 12)
    assert reshaped((N, 3, 4), (-1, 6)) == (2 * N, 6)
    assert reshaped((N, M, 8), (N, -1, 2, 4)) == (N, M, 2, 4)
    assert reshaped((N, M, 8), (-1, 8)) == (N * M, 8)
    assert reshaped((N * M, 8), (N, -1)) == (N, 8 * M)
    assert reshaped((N + 1, 6), (-1, 3)) == (2 * N + 2, 3)
    assert reshaped((3 * N + 3, 4), (N + 1, -1)) == (N + 1, 12)
    assert reshaped((N * N + N, 2), (N, -1)) == (N, 2 * N + 2)
    assert reshaped((N, 4), (2, 8)) == (2, 8)
    assert reshaped((N, M), (M, N)) == (M, N)
    unresolved = reshaped((N, 3), (-1, 2))[0]
    assert TensorType((unresolved,)).concrete({"N": 4}) == (6,)


def test_reshape_to_an_unknown_shape_keeps_the_rank():
    shape = TensorInfo(TensorType((3,), "int64"), "host")
    (result,) = RESHAPE.infer(ReshapeAttributes(), [info(2, 3), shape])
    assert [next(symbols(d)).name for d in result.shape] == ["?"] * 3
    with pytest.raises(ValueError, match=r"static length, found int64\[N\]"):
        RESHAPE.infer(ReshapeAttributes(), [info(2, 3), TensorInfo(TensorType((N,), "int64"))])


@pytest.mark.parametrize(
    ("shape", "wanted", "message"),
    [
        ((2, 3), (4,), r"\[2, 3\] has 6 elements, the shape \[4\] 4"),
        ((2, 3), (4, -1), r"does not fit \[4, -1\]: 6 elements cannot be divided by 4"),
        ((2, 3), (-1, -1), "one -1"),
        ((2, 3), (-2, 3), "no other negative"),
        ((6,), (6, 0), r"0 at axis 1 of the shape \[6, 0\] copies no axis of \[6\]"),
        ((0, 3), (0, -1), "undetermined"),
    ],
)
def test_reshape_refusals(shape, wanted, message):
    with pytest.raises(ValueError, match=message):
        reshaped(shape, wanted)


@given(st.lists(st.sampled_from([1, 2, 3, 5, N, M, N + 1, 2 * M + N]), max_size=4), st.data())
def test_the_rest_of_a_reshape_divides_exactly(factors, data):
    kept = [f for f in factors if data.draw(st.booleans())]
    (*_, rest) = reshaped(tuple(factors), (*kept, -1))
    sizes = {"N": 6, "M": 10}
    total, part, value = (math.prod(TensorType(tuple(dims)).concrete(sizes)) for dims in (factors, kept, [rest]))
    assert value == total // part
    assert "//" not in str(rest)


@pytest.mark.parametrize("axes", [None, (0,), (0, 2), (-2,)])
def test_squeeze_equals_onnxruntime(oracle, axes):
    x = np.zeros((1, 3, 1, 2), np.float32)
    inputs = [x] if axes is None else [x, np.array(axes)]
    (result,) = SqueezeLayer().reference(SqueezeAttributes(axes), [x], None)
    assert result.shape == oracle("Squeeze", inputs)[0].shape


@settings(max_examples=40, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data())
def test_axes_of_length_one_come_and_go(agrees, shape, data):
    count = data.draw(st.integers(0, 3))
    rank = len(shape) + count
    axes = data.draw(st.permutations(range(rank)))[:count]
    signed = tuple(axis - rank if data.draw(st.booleans()) else axis for axis in axes)
    x = np.zeros(shape, np.float32)
    (wide,) = agrees(UnsqueezeLayer(), UnsqueezeAttributes(signed), [x])
    np.testing.assert_array_equal(wide, np.expand_dims(x, signed))
    (back,) = agrees(SqueezeLayer(), SqueezeAttributes(signed), [wide])
    assert back.shape == x.shape
    (least,) = agrees(SqueezeLayer(), SqueezeAttributes(), [wide], symbolic=False)
    assert least.shape == tuple(d for d in shape if d != 1)


def test_squeeze_with_symbols():
    layer = SqueezeLayer()
    long = symbol("L", 2, 9)
    assert layer.infer(SqueezeAttributes(), [info(1, long)])[0].shape == (long,)
    assert layer.infer(SqueezeAttributes((0,)), [info(N, 3)])[0].shape == (3,)
    with pytest.raises(ValueError, match="axis 0 has the symbolic length N, which may be one: name the axes"):
        layer.infer(SqueezeAttributes(), [info(N, 1)])
    with pytest.raises(ValueError, match="axis 1 has length 3"):
        layer.infer(SqueezeAttributes((1,)), [info(1, 3)])


def test_unsqueeze_refuses_axes_given_twice_or_out_of_range():
    with pytest.raises(ValueError, match="twice"):
        UnsqueezeLayer().infer(UnsqueezeAttributes((0, -3)), [info(3)])
    with pytest.raises(ValueError, match=r"expected one of the 2 axes"):
        UnsqueezeLayer().infer(UnsqueezeAttributes((2,)), [info(3)])


@pytest.mark.parametrize("axis", [-3, -1, 0, 1, 2, 3])
def test_flatten_equals_onnxruntime(oracle, agrees, axis):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    (result,) = agrees(FlattenLayer(), FlattenAttributes(axis), [x])
    np.testing.assert_array_equal(result, oracle("Flatten", [x], axis=axis)[0])


def test_flatten_with_symbols():
    layer = FlattenLayer()
    assert layer.infer(FlattenAttributes(), [info(N, 3, M)])[0].shape == (N, 3 * M)
    assert layer.infer(FlattenAttributes(2), [info(N, 3, M)])[0].shape == (3 * N, M)
    with pytest.raises(ValueError, match="axis is 2, expected -1 to 1"):
        layer.infer(FlattenAttributes(2), [info(4)])


def test_known_values_are_rearranged():
    values = np.array([[N, 2]], object)
    for layer, attrs in (
        (SqueezeLayer(), SqueezeAttributes((0,))),
        (RESHAPE, ReshapeAttributes()),
        (FlattenLayer(), FlattenAttributes(2)),
        (UnsqueezeLayer(), UnsqueezeAttributes((0,))),
    ):
        arrays = [values, np.array([-1], object)] if layer is RESHAPE else [values]
        (result,) = layer.reference(attrs, arrays, None)
        assert result.dtype == object
        assert result.reshape(-1).tolist() == [N, 2]
    assert RESHAPE.infer(ReshapeAttributes(), [info(4), host(2, 2)])[0].dtype == "float32"
    assert RESHAPE.shape_inputs == (1,)
