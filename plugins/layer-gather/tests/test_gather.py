"""The gathers against onnxruntime, with symbolic shapes, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt_layer_gather.gather import GatherAttributes, GatherLayer
from tenonrt_layer_gather.gather_elements import GatherElementsAttributes, GatherElementsLayer
from tenonrt_layer_gather.gather_nd import GatherNDAttributes, GatherNDLayer
from tenonrt_layer_gather.one_hot import OneHotAttributes, OneHotLayer

Fixture = Callable[..., Any]
RNG = np.random.default_rng(7)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@given(shapes, st.lists(st.integers(0, 3), max_size=2), st.data())
@settings(max_examples=40, deadline=None)
def test_gather(oracle: Fixture, agrees: Fixture, shape: list[int], index: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    arrays = [RNG.standard_normal(shape).astype("f4"), RNG.integers(-shape[axis], shape[axis], index)]
    (y,) = agrees(GatherLayer(), GatherAttributes(axis), arrays)
    np.testing.assert_array_equal(y, oracle("Gather", arrays, axis=axis)[0])


@given(shapes, st.data())
@settings(max_examples=40, deadline=None)
def test_gather_elements(oracle: Fixture, agrees: Fixture, shape: list[int], data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    part = [data.draw(st.integers(1, n)) for n in shape]
    part[axis] = data.draw(st.integers(1, 6))
    arrays = [RNG.standard_normal(shape).astype("f4"), RNG.integers(-shape[axis], shape[axis], part)]
    (y,) = agrees(GatherElementsLayer(), GatherElementsAttributes(axis), arrays)
    np.testing.assert_array_equal(y, oracle("GatherElements", arrays, axis=axis)[0])


@given(shapes, st.lists(st.integers(1, 3), max_size=2), st.data())
@settings(max_examples=40, deadline=None)
def test_gather_nd(oracle: Fixture, agrees: Fixture, shape: list[int], outer: list[int], data: st.DataObject) -> None:
    batch = data.draw(st.integers(0, len(shape) - 1))
    depth = data.draw(st.integers(1, len(shape) - batch))
    columns = [RNG.integers(-n, n, [*shape[:batch], *outer]) for n in shape[batch : batch + depth]]
    arrays = [RNG.standard_normal(shape).astype("f4"), np.stack(columns, -1)]
    attrs = GatherNDAttributes(batch)
    (y,) = agrees(GatherNDLayer(), attrs, arrays, {1: [arrays[1].ndim - 1]})
    np.testing.assert_array_equal(y, oracle("GatherND", arrays, batch_dims=batch)[0])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3), st.integers(1, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_one_hot(oracle: Fixture, agrees: Fixture, shape: list[int], depth: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    indices = np.asarray(RNG.integers(-depth - 2, depth + 2, shape))
    arrays = [indices, np.array([depth]), np.array([0.5, 2.5], "f4")]
    (y,) = agrees(OneHotLayer(), OneHotAttributes(axis), arrays)
    np.testing.assert_array_equal(y, oracle("OneHot", arrays, axis=axis)[0])


@pytest.mark.parametrize("dtype", ["bfloat16", "int4", "float8_e4m3fn", "string", "bool"])
def test_gather_moves_every_element_type(agrees: Fixture, dtype: str) -> None:
    data = np.array(["a", "b", "c"], object) if dtype == "string" else np.arange(3).astype(TensorType((), dtype).numpy)
    (y,) = agrees(GatherLayer(), GatherAttributes(), [data, np.array([2, -3])])
    assert y.tolist() == [data.tolist()[2], data.tolist()[0]]


def test_gather_of_a_shape_keeps_its_symbols() -> None:
    batch = symbol("n", 1)
    shape = np.array([batch, 3, batch * 2], object)
    (picked,) = GatherLayer().reference(GatherAttributes(), [shape, np.array(-1, object)], None)  # type: ignore[arg-type]
    assert picked.shape == ()
    assert picked[()] == batch * 2


def test_an_index_outside_names_index_and_size() -> None:
    with pytest.raises(IndexError, match=r"index -4 .* size 3"):
        GatherLayer().reference(GatherAttributes(), [np.zeros(3), np.array([0, -4])], None)  # type: ignore[arg-type]


def test_refusals_name_what_was_found() -> None:
    data, floats = TensorInfo(TensorType((2, 3))), TensorInfo(TensorType((2,)))
    index = TensorInfo(TensorType((2, 4), "int64"))
    with pytest.raises(ValueError, match="found float32"):
        GatherLayer().infer(GatherAttributes(), [data, floats])
    with pytest.raises(ValueError, match="axis is 2, expected one of the 2 axes"):
        GatherLayer().infer(GatherAttributes(2), [data, index])
    with pytest.raises(ValueError, match="axis 1 of indices is 4, expected at most the data's 3"):
        GatherElementsLayer().infer(GatherElementsAttributes(), [data, index])
    with pytest.raises(ValueError, match="last axis of indices is 4, expected 1 to 2"):
        GatherNDLayer().infer(GatherNDAttributes(), [data, index])
    with pytest.raises(ValueError, match="input 1 is missing"):
        GatherLayer().infer(GatherAttributes(), [data, None])


@pytest.mark.parametrize("layer", [GatherLayer(), GatherElementsLayer(), GatherNDLayer(), OneHotLayer()])
def test_cases_and_samples_are_valid(agrees: Fixture, layer: Any) -> None:
    for case in layer.cases():
        types = [i if isinstance(i, TensorType) else TensorType(i.shape, i.dtype.name) for i in case.inputs]
        drawn = layer.sample(case.attrs, types, np.random.default_rng(0))
        arrays = [d if isinstance(i, TensorType) else i for i, d in zip(case.inputs, drawn, strict=True)]
        agrees(layer, case.attrs, arrays, {1: [arrays[1].ndim - 1]} if isinstance(layer, GatherNDLayer) else None)
