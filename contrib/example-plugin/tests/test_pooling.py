"""Max pooling by slices, against loops over every window."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from acme_tenonrt.pooling import SlicePoolingKernel
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Attributes, Problem, ProblemInput, ProblemLayer, TensorType, Weights


class PoolingAttributes(Attributes, frozen=True):
    """Those of the standard layer that this kernel reads."""

    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pre_padding: tuple[int, ...] = ()
    padding_mode: str = "explicit"
    function: str = "max"
    with_indices: bool = False


def problem(attrs: PoolingAttributes, shape: tuple[int, ...] = (1, 1, 4, 4), dtype: str = "float32") -> Problem:
    layer = ProblemLayer("Pooling", attrs, (0,), (1,))
    return Problem((layer,), (ProblemInput("activation"),), (TensorType(shape, dtype),) * 2, (1,), "cpu")


def oracle(x: np.ndarray, attrs: PoolingAttributes, positions: tuple[int, ...]) -> np.ndarray:
    rank = len(attrs.window)
    stride, dilation = attrs.stride or (1,) * rank, attrs.dilation or (1,) * rank
    pads = attrs.pre_padding or (0,) * rank
    y = np.full((*x.shape[:2], *positions), -np.inf)
    for where in product(*map(range, positions)):
        for tap in product(*map(range, attrs.window)):
            at = [w * s + t * d - p for w, s, t, d, p in zip(where, stride, tap, dilation, pads, strict=True)]
            if all(0 <= i < size for i, size in zip(at, x.shape[2:], strict=True)):
                y[(..., *where)] = np.maximum(y[(..., *where)], x[(..., *at)])
    return y


@st.composite
def poolings(draw: st.DrawFn) -> tuple[PoolingAttributes, tuple[int, ...], tuple[int, ...]]:
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    return PoolingAttributes(each(1, 4), each(1, 3), each(1, 3), each(0, 3)), each(1, 6), each(0, 4)


@settings(deadline=None)
@given(poolings())
def test_maxima(example: tuple[PoolingAttributes, tuple[int, ...], tuple[int, ...]]) -> None:
    attrs, sizes, positions = example
    whole = np.random.default_rng(0).standard_normal((2, 6, *sizes)).astype(np.float32)
    x, y = whole[:, ::2], np.full((2, 9, *positions), np.nan, np.float32)[:, 3:6]
    posed, kernel = problem(attrs, x.shape), SlicePoolingKernel()
    [tactic] = kernel.tactics(posed)
    code = kernel.compile(posed, tactic)
    kernel.bind(code, kernel.pack(code, Weights(()))).launch([x], [y], None, None)
    assert np.array_equal(y, oracle(x, attrs, positions))


@pytest.mark.parametrize(
    ("changes", "dtype", "why"),
    [
        ({"function": "average"}, "float32", "maxima"),
        ({"with_indices": True}, "float32", "indices"),
        ({"padding_mode": "same_upper"}, "float32", "same_upper"),
        ({}, "int8", "not in int8"),
    ],
)
def test_the_rest_is_refused_with_a_reason(changes: dict[str, Any], dtype: str, why: str) -> None:
    support = SlicePoolingKernel().supports(problem(PoolingAttributes((2, 2), **changes), dtype=dtype))
    assert not support.ok
    assert why in support.why
    assert SlicePoolingKernel().supports(problem(PoolingAttributes((2, 2)))).runtime_symbols == "all"
