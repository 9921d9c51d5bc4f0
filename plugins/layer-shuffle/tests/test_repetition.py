from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
from tenonrt.contracts import Attributes, TensorInfo, TensorType, maximum, symbol
from tenonrt.dims import symbols
from tenonrt_layer_shuffle.expand import ExpandLayer
from tenonrt_layer_shuffle.tile import TileLayer

N, M = symbol("N"), symbol("M")
EXPAND, TILE = ExpandLayer(), TileLayer()


def infer(layer, shape, *values):
    array = np.empty(len(values), object)
    array[:] = values
    vector = TensorInfo(TensorType((len(values),), "int64"), "host", array)
    return layer.infer(Attributes(), [TensorInfo(TensorType(shape)), vector])[0].shape


@pytest.mark.parametrize("layer", [EXPAND, TILE])
def test_cases(check_cases, layer):
    check_cases(layer)


@pytest.mark.parametrize("wanted", [[3, 4], [2, 1, 4], [1], [3, 1], [2, 3, 4]])
def test_expand_equals_onnxruntime(oracle, wanted):
    x, shape = np.arange(3, dtype=np.float32).reshape(3, 1), np.array(wanted)
    (result,) = EXPAND.reference(Attributes(), [x, shape], None)
    np.testing.assert_array_equal(result, oracle("Expand", [x, shape])[0])


@settings(max_examples=40, deadline=None)
@given(mutually_broadcastable_shapes(num_shapes=2, min_dims=0, max_dims=4, min_side=0, max_side=4))
def test_expand_infer_agrees_with_reference(agrees, shapes):
    shape, wanted = shapes.input_shapes
    agrees(EXPAND, Attributes(), [np.zeros(shape, np.float32), np.array(wanted, np.int64)])


def test_expand_with_symbols():
    assert infer(EXPAND, (1, 4), N, 1) == (N, 4)
    assert infer(EXPAND, (N, 1), 2, 1, M) == (2, N, M)
    positive = symbol("P", 1), symbol("Q", 1)
    assert infer(EXPAND, positive[:1], positive[1]) == (maximum(*positive),)
    assert infer(EXPAND, (N,), 5) == (5,)
    with pytest.raises(ValueError, match="shapes 3 and 2 do not broadcast"):
        infer(EXPAND, (3,), 2)


def test_expand_to_an_unknown_shape():
    shape = TensorInfo(TensorType((3,), "int64"), "host")
    (result,) = EXPAND.infer(Attributes(), [TensorInfo(TensorType((4, 1))), shape])
    assert [d if isinstance(d, int) else next(symbols(d)).name for d in result.shape] == ["?", 4, "?"]


@pytest.mark.parametrize("repeats", [[2, 3], [1, 1], [0, 2]])
def test_tile_equals_onnxruntime(oracle, repeats):
    x, times = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(repeats)
    (result,) = TILE.reference(Attributes(), [x, times], None)
    np.testing.assert_array_equal(result, oracle("Tile", [x, times])[0])


@settings(max_examples=30, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3), st.data())
def test_tile_infer_agrees_with_reference(agrees, shape, data):
    repeats = [data.draw(st.integers(0, 3)) for _ in shape]
    agrees(TILE, Attributes(), [np.zeros(shape, np.float32), np.array(repeats, np.int64)])


def test_tile_with_symbols():
    assert infer(TILE, (N, 2), 3, M) == (3 * N, 2 * M)
    with pytest.raises(ValueError, match="1 repeats are given for an input of rank 2"):
        infer(TILE, (2, 3), 2)
    with pytest.raises(ValueError, match=r"not be negative, found \[-1\]"):
        infer(TILE, (2,), -1)


def test_known_values_repeat():
    x = np.array([N], object)
    for layer in (EXPAND, TILE):
        (result,) = layer.reference(Attributes(), [x, np.array([2], object)], None)
        assert result.tolist() == [N, N]
