"""Division, extremes and mistyped operands of symbolic dimensions, against integer arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.dims import Dim, Dimension, UndecidedError, evaluate, maximum, minimum, product, symbol

N, M, K = symbol("N"), symbol("M"), symbol("K", 1, 8)
SIZES = st.fixed_dictionaries({"N": st.integers(1, 9), "M": st.integers(1, 9), "K": st.integers(1, 8)})


@st.composite
def polynomials(draw: st.DrawFn) -> Dimension:
    terms = draw(st.lists(st.tuples(st.integers(-3, 3), st.lists(st.sampled_from([N, M, K]), max_size=2)), max_size=3))
    return sum((c * product(factors) for c, factors in terms), start=0)


@given(polynomials(), polynomials())
def test_products_divide_exactly(left: Dimension, right: Dimension) -> None:
    if isinstance(right, Dim):
        assert left * right // right == left
        assert left * right % right == 0


@given(polynomials(), polynomials(), SIZES)
def test_every_quotient_and_remainder_has_the_value_of_the_division(
    left: Dimension, right: Dimension, sizes: dict[str, int]
) -> None:
    divisor = evaluate(right, sizes)
    if divisor > 0 and isinstance(right, Dim):
        assert evaluate(left // right, sizes) == evaluate(left, sizes) // divisor
        assert evaluate(left % right, sizes) == evaluate(left, sizes) % divisor


@given(polynomials(), st.integers(1, 6), SIZES)
def test_division_by_integers(left: Dimension, right: int, sizes: dict[str, int]) -> None:
    assert evaluate(left // right, sizes) == evaluate(left, sizes) // right
    assert evaluate(left % right, sizes) == evaluate(left, sizes) % right


def test_quotients_that_need_long_division() -> None:
    assert (N + 1) * (M + 2) * 6 // ((M + 2) * 2) == 3 * N + 3
    assert (N * N - 1) // (N - 1) == N + 1
    assert (N // 2) * M // (N // 2) == M  # opaque atoms divide as symbols do
    assert 0 // N == 0


def test_what_does_not_divide_stays_a_division() -> None:
    assert str((N + 1) // M) == "((1 + N) // M)"
    assert str(3 * N // (2 * N)) == "((3*N) // 2*N)"
    assert str(6 // N) == "((6) // N)"
    assert (4 * N + M) // 4 == N + M // 4
    with pytest.raises(ZeroDivisionError, match="divided by 0"):
        N // 0


def test_extremes_do_not_depend_on_the_order() -> None:
    for left, right, larger in ((0, N, N), (K, 1, K), (K, 8, 8), (N, N + M, N + M)):
        assert maximum(left, right) == maximum(right, left) == larger
        assert minimum(left, right) == minimum(right, left) == left + right - larger
    assert maximum(N, M) == maximum(M, N)
    assert isinstance(maximum(N, 1), Dim)


@given(polynomials(), polynomials(), SIZES)
def test_extremes_have_the_value_of_the_larger_and_the_smaller(
    left: Dimension, right: Dimension, sizes: dict[str, int]
) -> None:
    values = evaluate(left, sizes), evaluate(right, sizes)
    assert evaluate(maximum(left, right), sizes) == max(values)
    assert evaluate(minimum(left, right), sizes) == min(values)


@pytest.mark.parametrize("wrong", [0.5, 2.0, np.float32(2), "2", None])
def test_only_integers_combine_with_dimensions(wrong: Any) -> None:
    operations: list[Callable[[Any, Any], Any]] = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        lambda a, b: a // b,
        lambda a, b: a % b,
        lambda a, b: a >= b,
        lambda a, b: a < b,
    ]
    for operation in operations:
        with pytest.raises(TypeError):
            operation(N, wrong)
        with pytest.raises(TypeError):
            operation(wrong, N)
    with pytest.raises(TypeError, match=r"dimensions are integers, and one is combined with 0\.5"):
        N * 0.5  # type: ignore[operator]


def test_integers_of_numpy_combine_with_dimensions() -> None:
    two: Any = np.int64(2)
    doubled = N * two
    assert doubled == 2 * N
    assert isinstance(doubled, Dim)
    assert type(doubled.terms[0][1]) is int
    assert 3 * doubled // two == 3 * N


def test_undecided_comparisons_say_so() -> None:
    with pytest.raises(UndecidedError, match="cannot tell whether N >= 3"):
        assert N >= 3
