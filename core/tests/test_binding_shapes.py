"""Binding symbols to the sizes that a run brings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import NCHW16C, TensorType, symbol
from tenonrt.errors import ExecutionError
from tenonrt.runtime.shapes import bind_shape, known, physical_shape

N, M = symbol("n", 1, 8), symbol("m", 2)


@given(st.integers(1, 8), st.integers(2, 40))
def test_lone_symbols_are_learnt_and_the_rest_is_checked(n: int, m: int) -> None:
    values: dict[str, int] = {}
    type = TensorType((n, N * 2, N, M, N + M))
    bind_shape("input 'x'", type, (n, 2 * n, n, m, n + m), values)
    assert values == {"n": n, "m": m}
    assert known(type, values)
    with pytest.raises(ExecutionError, match=rf"input 'x' has shape .*; axis 4 of .* must be {n + m}"):
        bind_shape("input 'x'", type, (n, 2 * n, n, m, n + m + 1), {})


def test_sizes_out_of_range_name_the_symbol_and_what_was_built_for() -> None:
    with pytest.raises(ExecutionError, match=r"input 'x': n is 9; this engine was built for 1 to 8"):
        bind_shape("input 'x'", TensorType((N,)), (9,), {})
    with pytest.raises(ExecutionError, match=r"input 'x': m is 1; this engine was built for at least 2"):
        bind_shape("input 'x'", TensorType((M,)), (1,), {})


def test_a_symbol_has_one_value_across_inputs() -> None:
    values = {"n": 3}
    with pytest.raises(ExecutionError, match=r"axis 0 of .* must be 3"):
        bind_shape("input 'y'", TensorType((N,)), (4,), values)
    assert values == {"n": 3}


def test_another_rank_is_refused() -> None:
    with pytest.raises(ExecutionError, match=r"has shape \(1, 2\); .* has 1 dimensions"):
        bind_shape("input 'x'", TensorType((N,)), (1, 2), {})


def test_sizes_in_memory() -> None:
    assert physical_shape(TensorType((N, M, 2, 2), format=NCHW16C), {"n": 2, "m": 17}) == (2, 2, 2, 2, 16)
    assert not known(TensorType((N, M)), {"n": 1})
