from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt.dims import symbols
from tenonrt_layer_padding.padding import PaddingAttributes, PaddingLayer

LAYER = PaddingLayer()
MODES = ("constant", "reflect", "edge", "wrap")
N = symbol("N")


def info(*shape, dtype="float32"):
    return TensorInfo(TensorType(shape, dtype))


def host(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return TensorInfo(TensorType((len(values),), "int64"), "host", array)


def infer(shape, *pads, mode="constant", value=None, axes=None):
    inputs = [info(*shape), host(*pads), value, None if axes is None else host(*axes)]
    return LAYER.infer(PaddingAttributes(mode), inputs)[0].shape


def compute(mode, *arrays):
    return LAYER.reference(PaddingAttributes(mode), arrays, None)[0]


def test_cases(check_cases):
    check_cases(LAYER)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pads", [[1, 2, 0, 3], [0, 0, 0, 0], [2, 0, 2, 4]])
def test_equals_onnxruntime(oracle, mode, pads):
    x, pads = np.arange(15, dtype=np.float32).reshape(3, 5), np.array(pads)
    np.testing.assert_array_equal(compute(mode, x, pads), oracle("Pad", [x, pads], mode=mode)[0])


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_cropping_equals_onnxruntime(oracle, mode):
    x, pads = np.arange(15, dtype=np.float32).reshape(3, 5), np.array([-1, 2, 1, -3])
    np.testing.assert_array_equal(compute(mode, x, pads), oracle("Pad", [x, pads], mode=mode)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_values_and_axes_equal_onnxruntime(oracle, dtype):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    arrays = [x, np.array([1, 0, 2, 1]), np.array(1, dtype), np.array([-1, 0])]
    np.testing.assert_array_equal(compute("constant", *arrays), oracle("Pad", arrays)[0])


def test_strings_are_padded_with_empty_ones():
    assert compute("constant", np.array(["a"], object), np.array([1, 0])).tolist() == ["", "a"]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(MODES), array_shapes(min_dims=0, max_dims=4, max_side=4), st.data())
def test_infer_agrees_with_reference(agrees, mode, shape, data):
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(0, len(shape)))]
    begins = [data.draw(st.integers(1 - shape[a], 3)) for a in axes]
    ends = [data.draw(st.integers(1 - shape[a] - min(b, 0), 3)) for a, b in zip(axes, begins, strict=True)]
    pads, chosen = np.array([*begins, *ends], np.int64), np.array(axes, np.int64)
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    (result,) = agrees(LAYER, PaddingAttributes(mode), [x, pads, None, chosen])
    crop = [slice(None)] * len(shape)
    added = [(0, 0)] * len(shape)
    for axis, begin, end in zip(axes, begins, ends, strict=True):
        crop[axis] = slice(max(-begin, 0), shape[axis] - max(-end, 0))
        added[axis] = (max(begin, 0), max(end, 0))
    expected = np.pad(x[tuple(crop)], added, mode) if shape else x
    np.testing.assert_array_equal(result, expected)


def test_symbols():
    assert infer((N, 4), 0, 1, 0, 2) == (N, 7)
    assert infer((N, 4), 1, 0, 2, 0) == (N + 3, 4)
    assert infer((4,), N, 1) == (N + 5,)
    assert infer((symbol("L", 3), 4), -1, 0, -2, 0)[0] == symbol("L", 3) - 3
    unknown_pads = TensorInfo(TensorType((4,), "int64"), "host")
    (result,) = LAYER.infer(PaddingAttributes(), [info(2, 3), unknown_pads])
    assert [next(symbols(d)).name for d in result.shape] == ["?", "?"]


def test_refusals():
    with pytest.raises(ValueError, match=r"2 axes need 4 pads .* found 2"):
        infer((2, 3), 1, 1)
    with pytest.raises(ValueError, match="of a tensor of rank 2 twice"):
        infer((2, 3), 1, 1, 0, 0, axes=(0, -2))
    with pytest.raises(ValueError, match="length 3 cannot be cropped by -2 and -2"):
        infer((3,), -2, -2)
    with pytest.raises(ValueError, match="mode edge has nothing to repeat on an axis of length 0"):
        infer((0,), 1, 0, mode="edge")
    with pytest.raises(ValueError, match=r"scalar of the input's type float32, found int8\[\d\]|found int8\[scalar\]"):
        infer((3,), 1, 0, value=info(dtype="int8"))
    with pytest.raises(ValueError, match="unknown padding mode 'zero'"):
        infer((3,), 1, 0, mode="zero")


@pytest.mark.parametrize("absent", [(), (2,), (3,), (2, 3)])
def test_samples_leave_out_what_is_absent(absent):
    inputs = [
        TensorType((3, 4), "int64"),
        TensorType((4,), "int64"),
        TensorType((1,), "int64"),
        TensorType((2,), "int64"),
    ]
    types = [None if i in absent else t for i, t in enumerate(inputs)]
    arrays = LAYER.sample(PaddingAttributes(), types, np.random.default_rng(0))
    assert [i for i, a in enumerate(arrays) if a is None] == list(absent)
    (result,) = LAYER.reference(PaddingAttributes(), arrays, None)
    np.testing.assert_array_equal(result, arrays[0])  # nothing is added
