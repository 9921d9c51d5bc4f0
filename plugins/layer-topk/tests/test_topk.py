"""TopK and ArgReduce against onnxruntime, with symbolic shapes, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt_layer_topk.arg_reduce import ArgReduceAttributes, ArgReduceLayer
from tenonrt_layer_topk.topk import TopKAttributes, TopKLayer

Fixture = Callable[..., Any]
RNG = np.random.default_rng(9)
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(shapes, st.sampled_from(["f4", "f8", "i4", "i8"]), st.data())
@settings(max_examples=60, deadline=None)
def test_topk(oracle: Fixture, agrees: Fixture, shape: list[int], dtype: str, data: st.DataObject) -> None:
    largest = data.draw(st.booleans())
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k = np.array([data.draw(st.integers(0, shape[axis]))])
    arrays = [RNG.integers(-3, 3, shape).astype(dtype), k]
    results = agrees(TopKLayer(), TopKAttributes(axis, largest), arrays)
    expected = oracle("TopK", arrays, 2, axis=axis, largest=int(largest), sorted=1)
    for found, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(found, right)


@given(shapes, st.sampled_from(["max", "min"]), st.data())
@settings(max_examples=60, deadline=None)
def test_arg_reduce(oracle: Fixture, agrees: Fixture, shape: list[int], operation: str, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    keep, last = data.draw(st.booleans()), data.draw(st.booleans())
    arrays = [RNG.integers(-2, 2, shape).astype("f4")]
    (y,) = agrees(ArgReduceLayer(), ArgReduceAttributes(operation, axis, keep, last), arrays)  # type: ignore[arg-type]
    operator = "ArgMax" if operation == "max" else "ArgMin"
    expected = oracle(operator, arrays, axis=axis, keepdims=int(keep), select_last_index=int(last))[0]
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2", "int4", "uint8", "float16", "bool"])
def test_every_ordered_element_type(agrees: Fixture, dtype: str) -> None:
    values = np.array([1, 0, 1, 0]).astype(TensorType((), dtype).numpy)
    best, where = agrees(TopKLayer(), TopKAttributes(), [values, np.array([3])])
    assert best.astype(int).tolist() == [1, 1, 0]
    assert where.tolist() == [0, 2, 1]
    assert agrees(ArgReduceLayer(), ArgReduceAttributes("min"), [values])[0].tolist() == [1]


def test_nan_is_the_largest(agrees: Fixture) -> None:
    values = np.array([1.0, np.nan, 3.0], "f4")
    assert agrees(TopKLayer(), TopKAttributes(), [values, np.array([3])])[1].tolist() == [1, 2, 0]
    assert agrees(TopKLayer(), TopKAttributes(largest=False), [values, np.array([3])])[1].tolist() == [0, 2, 1]


def test_k_may_be_symbolic_or_unknown() -> None:
    values, k = TensorInfo(TensorType((2, 9))), TensorInfo(TensorType((1,), "int64"))
    count = symbol("k", 1, 9)
    (best, _) = TopKLayer().infer(TopKAttributes(), [values, k.with_value(np.array([count], object))])
    assert best.shape == (2, count)
    (best, _) = TopKLayer().infer(TopKAttributes(), [values, k])
    assert str(best.shape[1]) == "?"


def test_refusals_name_what_was_found() -> None:
    values = TensorInfo(TensorType((2, 4)))
    five = TensorInfo(TensorType((1,), "int64"), value=np.array([5], object))
    with pytest.raises(ValueError, match="k is 5, expected 0 to 4"):
        TopKLayer().infer(TopKAttributes(), [values, five])
    with pytest.raises(ValueError, match="k is 5, expected 0 to 4"):
        TopKLayer().reference(TopKAttributes(), [np.zeros((2, 4)), np.array([5])], None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="string elements have no order"):
        ArgReduceLayer().infer(ArgReduceAttributes(), [TensorInfo(TensorType((2,), "string"))])
    with pytest.raises(ValueError, match="is empty"):
        ArgReduceLayer().infer(ArgReduceAttributes(), [TensorInfo(TensorType((0, 2)))])


@pytest.mark.parametrize("layer", [TopKLayer(), ArgReduceLayer()])
def test_cases_and_samples_are_valid(agrees: Fixture, layer: Any) -> None:
    for case in layer.cases():
        types = [i if isinstance(i, TensorType) else TensorType(i.shape, i.dtype.name) for i in case.inputs]
        drawn = layer.sample(case.attrs, types, np.random.default_rng(0))
        agrees(layer, case.attrs, drawn)
