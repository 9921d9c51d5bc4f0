from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_softmax.hardmax import HardmaxAttributes, HardmaxLayer
from tenonrt_layer_softmax.softmax import SoftmaxAttributes, SoftmaxLayer

SOFTMAX, HARDMAX = SoftmaxLayer(), HardmaxLayer()
LAYERS: tuple[Any, ...] = (SOFTMAX, HARDMAX)
CASES = [pytest.param(layer, c, id=f"{type(layer).__name__}-{c.name}") for layer in LAYERS for c in layer.cases()]


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def values(case: Case) -> Any:
    given = case.inputs[0]
    if isinstance(given, np.ndarray):
        return given
    return np.random.default_rng(0).standard_normal(given.shape).astype(given.dtype)


@pytest.mark.parametrize(("layer", "case"), CASES)
def test_agrees_with_onnxruntime(layer: Any, case: Case, oracle: Any, no_graphs: Run) -> None:
    x = values(case)
    operator = "Hardmax" if layer is HARDMAX else "LogSoftmax" if case.attrs.log else "Softmax"
    (expected,) = oracle(operator, [x], axis=case.attrs.axis)
    (found,) = layer.reference(case.attrs, [x], no_graphs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.data())
def test_random_shapes_and_axes(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(1).integers(-3, 3, shape).astype(np.float64)
    symbols = [symbol(f"s{i}") for i in range(len(shape))]
    for layer, attrs in ((SOFTMAX, SoftmaxAttributes(axis)), (HARDMAX, HardmaxAttributes(axis))):
        (found,) = layer.reference(attrs, [x], None)  # type: ignore[arg-type]
        assert layer.infer(attrs, [info(*shape, dtype="float64")])[0].shape == found.shape == shape
        (symbolic,) = layer.infer(attrs, [info(*symbols, dtype="float64")])
        assert symbolic.type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == shape
        if x.size:
            np.testing.assert_allclose(found.sum(axis), 1, rtol=1e-12)
            assert (np.take_along_axis(x, found.argmax(axis, keepdims=True), axis) == x.max(axis, keepdims=True)).all()
    (logarithm,) = SOFTMAX.reference(SoftmaxAttributes(axis, log=True), [x], None)  # type: ignore[arg-type]
    (plain,) = SOFTMAX.reference(SoftmaxAttributes(axis), [x], None)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.exp(logarithm), plain, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32(dtype: str, no_graphs: Run) -> None:
    x = np.zeros((1, 1 << 14), TensorType((), dtype).numpy)
    (found,) = SOFTMAX.reference(SoftmaxAttributes(), [x], no_graphs)
    assert found.dtype.name == dtype
    assert (found.astype(np.float64) == 2.0**-14).all()
    (hard,) = HARDMAX.reference(HardmaxAttributes(), [x], no_graphs)
    assert hard.dtype.name == dtype
    assert float(hard[0, 0]) == 1 == float(hard.astype(np.float32).sum())


def test_nan_and_a_row_of_minus_infinity_are_nan(no_graphs: Run) -> None:
    x = np.array([[-np.inf, -np.inf], [np.nan, 0.0], [0.0, 0.0]])
    (found,) = SOFTMAX.reference(SoftmaxAttributes(), [x], no_graphs)
    np.testing.assert_array_equal(found, [[np.nan, np.nan], [np.nan, np.nan], [0.5, 0.5]])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("axis", "source", "message"),
    [
        (2, info(3, 4), r"axis is 2, expected one of the 2 axes"),
        (-3, info(3, 4), "axis is -3"),
        (-1, info(), "axis is -1, expected one of the 0 axes"),
        (0, info(3, dtype="int64"), "input is int64"),
    ],
)
def test_refusals_say_what_was_found(layer: Any, axis: int, source: TensorInfo, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer.infer(layer.Attrs(axis), [source])


def test_reduction_is_the_length_of_the_axis() -> None:
    n = symbol("n")
    assert SOFTMAX.reduction(SoftmaxAttributes(1), [info(2, n, 3)]) == n
    assert SOFTMAX.flops(SoftmaxAttributes(1), [info(2, n, 3)], [info(2, n, 3)]) == 30 * n
