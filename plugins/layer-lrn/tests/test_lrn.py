from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_lrn.lrn import LRNAttributes, LRNLayer

LAYER = LRNLayer()
CASES = [pytest.param(c, id=c.name) for c in LAYER.cases()]


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def values(case: Case) -> Any:
    return np.random.default_rng(0).standard_normal(case.inputs[0].shape).astype(np.float32)


def plain_lrn(x: Any, attrs: LRNAttributes) -> Any:
    """The definition of ONNX LRN, one channel at a time, in float64."""
    x = x.astype(np.float64)
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        first = max(0, c - (attrs.window - 1) // 2)
        last = min(x.shape[1] - 1, c + -(-(attrs.window - 1) // 2))
        squares = (x[:, first : last + 1] ** 2).sum(axis=1)
        y[:, c] = x[:, c] / (attrs.k + attrs.alpha / attrs.window * squares) ** attrs.beta
    return y


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_onnxruntime_and_the_definition(case: Case, oracle: Any, no_graphs: Run) -> None:
    x, attrs = values(case), case.attrs
    (found,) = LAYER.reference(attrs, [x], no_graphs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_lrn(x, attrs), rtol=1e-5, atol=1e-6)
    if x.ndim == 4 and attrs.window % 2 and x.size:  # onnxruntime takes nothing else
        (expected,) = oracle("LRN", [x], size=attrs.window, alpha=attrs.alpha, beta=attrs.beta, bias=attrs.k)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=4), st.integers(1, 9), st.floats(0, 2), st.floats(0.1, 2))
def test_random_windows(shape: list[int], window: int, alpha: float, beta: float) -> None:
    attrs = LRNAttributes(window, alpha, beta)
    x = np.random.default_rng(1).standard_normal(shape)
    (found,) = LAYER.reference(attrs, [x], None)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, plain_lrn(x, attrs), rtol=1e-12)
    symbols = [symbol(f"s{i}") for i in range(len(shape))]
    (inferred,) = LAYER.infer(attrs, [info(*symbols, dtype="float64")])
    assert inferred.type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == found.shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_in_float32(dtype: str, no_graphs: Run) -> None:
    attrs = LRNAttributes(5, alpha=1.0)
    # The squares of these overflow float16; in float32 they do not.
    x = (np.random.default_rng(0).standard_normal((1, 8, 4, 4)) * 1000).astype(TensorType((), dtype).numpy)
    (found,) = LAYER.reference(attrs, [x], no_graphs)
    assert found.dtype.name == dtype
    rounding = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(found.astype(np.float64), plain_lrn(x, attrs), rtol=rounding)


@pytest.mark.parametrize(
    ("window", "source", "message"),
    [
        (0, info(1, 4, 3, 3), "window is 0, expected at least 1"),
        (5, info(4), r"input is float32\[4\], expected at least \[N, C\]"),
        (5, info(1, 4, dtype="int32"), "input is int32.*expected one of float16"),
    ],
)
def test_refusals_say_what_was_found(window: int, source: TensorInfo, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYER.infer(LRNAttributes(window), [source])
