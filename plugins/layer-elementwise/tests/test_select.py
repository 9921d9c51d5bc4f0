from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tenonrt.contracts import Attributes, TensorInfo, TensorType, symbol
from tenonrt_layer_elementwise.select import SelectLayer

LAYER = SelectLayer()
N = symbol("N")


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "string"])
def test_equals_onnxruntime(oracle, rng, dtype):
    condition = rng.integers(0, 2, (3, 1, 5)).astype(bool)
    a, b = rng.integers(0, 9, (4, 5)), rng.integers(0, 9, (3, 4, 1))
    a, b = (x.astype(str).astype(object) if dtype == "string" else x.astype(dtype) for x in (a, b))
    (expected,) = oracle("Where", [condition, a, b])
    np.testing.assert_array_equal(LAYER.reference(Attributes(), [condition, a, b], None)[0], expected)


@settings(max_examples=40, deadline=None)
@given(mutually_broadcastable_shapes(num_shapes=3, min_dims=0, max_dims=3, min_side=0, max_side=3))
def test_infer_agrees_with_reference(agrees, shapes):
    c, a, b = shapes.input_shapes
    agrees(LAYER, Attributes(), [np.ones(c, bool), np.ones(a, np.float16), np.ones(b, np.float16)])


def test_cases(check_cases):
    check_cases(LAYER)


def test_shape_arithmetic():
    condition = np.array([True, False, N + 1], object)
    (result,) = LAYER.reference(Attributes(), [condition, np.array([N, 2, 3], object), np.array(7, object)], None)
    assert result.dtype == object
    assert list(result) == [N, 7, 3]


def test_refusals():
    x, y = TensorInfo(TensorType((2,))), TensorInfo(TensorType((2,), "int8"))
    with pytest.raises(ValueError, match=r"must be bool, found float32\[2\]"):
        LAYER.infer(Attributes(), [x, x, x])
    with pytest.raises(ValueError, match="found float32 and int8"):
        LAYER.infer(Attributes(), [TensorInfo(TensorType((2,), "bool")), x, y])
    with pytest.raises(ValueError, match="shapes 3 and 2 and 2 do not broadcast"):
        LAYER.infer(Attributes(), [TensorInfo(TensorType((3,), "bool")), x, x])
