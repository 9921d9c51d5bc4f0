from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import Attributes, TensorInfo, TensorType, symbol
from tenonrt_layer_shape.shape import ShapeAttributes, ShapeLayer
from tenonrt_layer_shape.size import SizeLayer

N, M = symbol("N"), symbol("M")


@pytest.mark.parametrize("layer", [ShapeLayer, SizeLayer])
def test_cases(check_cases, layer):
    check_cases(layer())


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, 3), (-2, None), (0, -1), (-9, 9), (2, 1), (3, -9)])
def test_shape_equals_onnxruntime(oracle, start, end):
    x = np.zeros((2, 3, 4), np.float32)
    attributes = {"start": start} if end is None else {"start": start, "end": end}
    (result,) = ShapeLayer().reference(ShapeAttributes(start, end), [x], None)
    np.testing.assert_array_equal(result, oracle("Shape", [x], **attributes)[0])


def test_size_equals_onnxruntime(oracle):
    x = np.zeros((2, 3, 4), np.float32)
    assert SizeLayer().reference(Attributes(), [x], None)[0] == oracle("Size", [x])[0]


@settings(max_examples=40, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0), st.integers(-5, 5), st.none() | st.integers(-5, 5))
def test_inferred_values_are_the_references(agrees, shape, start, end):
    x = np.zeros(shape, np.float32)
    attrs = ShapeAttributes(start, end)
    (dims,) = agrees(ShapeLayer(), attrs, [x])
    (size,) = agrees(SizeLayer(), Attributes(), [x])
    info = TensorInfo(TensorType(shape))
    assert ShapeLayer().infer(attrs, [info])[0].integers() == dims.tolist()
    assert SizeLayer().infer(Attributes(), [info])[0].integers() == [size]


def test_symbols_are_known_on_the_host():
    info = TensorInfo(TensorType((N, 3, 2 * M)))
    (shape,) = ShapeLayer().infer(ShapeAttributes(1), [info])
    (size,) = SizeLayer().infer(Attributes(), [info])
    assert (shape.place, size.place, size.shape) == ("host", "host", ())
    assert list(shape.value) == [3, 2 * M]
    assert size.value.item() == 6 * N * M
