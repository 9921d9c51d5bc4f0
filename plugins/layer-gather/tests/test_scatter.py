"""The scatters against onnxruntime, with symbolic shapes, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import TensorInfo, TensorType
from tenonrt_layer_gather.scatter_elements import ScatterElementsAttributes, ScatterElementsLayer
from tenonrt_layer_gather.scatter_nd import ScatterNDAttributes, ScatterNDLayer

Fixture = Callable[..., Any]
RNG = np.random.default_rng(8)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)
reductions = st.sampled_from(["none", "add", "mul", "max", "min"])


@given(shapes, reductions, st.data())
@settings(max_examples=50, deadline=None)
def test_scatter_elements(
    oracle: Fixture, agrees: Fixture, shape: list[int], reduction: str, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    part = [data.draw(st.integers(1, n)) for n in shape]
    attrs, layer = ScatterElementsAttributes(axis, reduction), ScatterElementsLayer()  # type: ignore[arg-type]
    types = [TensorType(tuple(s), d) for s, d in ((shape, "float32"), (part, "int64"), (part, "float32"))]
    arrays = layer.sample(attrs, types, RNG)
    if reduction != "none":
        arrays[1] -= shape[axis] * RNG.integers(0, 2, part)
    (y,) = agrees(layer, attrs, arrays)
    expected = oracle("ScatterElements", arrays, opset=18, axis=axis, reduction=reduction)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@given(shapes, reductions, st.data())
@settings(max_examples=50, deadline=None)
def test_scatter_nd(oracle: Fixture, agrees: Fixture, shape: list[int], reduction: str, data: st.DataObject) -> None:
    outer, depth = data.draw(st.lists(st.integers(1, 3), max_size=2)), data.draw(st.integers(1, len(shape)))
    attrs, layer = ScatterNDAttributes(reduction), ScatterNDLayer()  # type: ignore[arg-type]
    index, updates = (*outer, depth), (*outer, *shape[depth:])
    types = [TensorType(tuple(shape)), TensorType(index, "int64"), TensorType(updates)]
    arrays = layer.sample(attrs, types, RNG)
    (y,) = agrees(layer, attrs, arrays, {1: [len(index) - 1]})
    if reduction == "none" and np.prod(outer) > np.prod(shape[:depth]):
        return  # ONNX leaves open which of equal indices wins
    expected = oracle("ScatterND", arrays, opset=18, reduction=reduction)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool"])
def test_duplicates_accumulate_in_every_element_type(agrees: Fixture, dtype: str) -> None:
    kind = TensorType((), dtype).numpy
    arrays = [np.zeros(3, kind), np.array([1, 1, -2]), np.ones(3, kind)]
    (y,) = agrees(ScatterElementsLayer(), ScatterElementsAttributes(reduction="add"), arrays)
    assert y.tolist() == np.array([0, 3, 0]).astype(kind).tolist()
    assert arrays[0].tolist() == [0, 0, 0]


def test_refusals_name_what_was_found() -> None:
    data, index = TensorInfo(TensorType((4, 3))), TensorInfo(TensorType((2, 1), "int64"))
    with pytest.raises(ValueError, match=r"updates are float32\[2\], expected float32\[2x3\]"):
        ScatterNDLayer().infer(ScatterNDAttributes(), [data, index, TensorInfo(TensorType((2,)))])
    with pytest.raises(ValueError, match="axis 1 of updates is 3, expected 1"):
        ScatterElementsLayer().infer(ScatterElementsAttributes(), [data, index, TensorInfo(TensorType((2, 3)))])
    with pytest.raises(ValueError, match="updates are int32"):
        ScatterElementsLayer().infer(
            ScatterElementsAttributes(), [data, index, TensorInfo(TensorType((2, 1), "int32"))]
        )


@pytest.mark.parametrize("layer", [ScatterElementsLayer(), ScatterNDLayer()])
def test_cases_and_samples_are_valid(agrees: Fixture, layer: Any) -> None:
    for case in layer.cases():
        arrays = layer.sample(case.attrs, case.inputs, np.random.default_rng(0))
        agrees(layer, case.attrs, arrays, {1: [arrays[1].ndim - 1]})
