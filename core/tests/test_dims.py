"""Symbolic dimensions are judged by substitution: an expression and its value at random points must agree."""

from __future__ import annotations

import operator
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tenonrt.dims import (
    UNKNOWN,
    Dim,
    Dimension,
    UndecidedError,
    bounds,
    evaluate,
    maximum,
    minimum,
    product,
    substitute,
    symbol,
    symbols,
    unknown,
)

RANGES = {"a": (0, 7), "b": (1, 5), "c": (3, 12), "d": (2, None)}
SYMBOLS = {name: symbol(name, *limits) for name, limits in RANGES.items()}
OPERATIONS: dict[str, Callable[[Dimension, Dimension], Dimension]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "max": maximum,
    "min": minimum,
}
INTEGERS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "max": max, "min": min,
    "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip

Tree = int | str | tuple[str, "Tree", "Tree"]


def trees(divisions: bool = True) -> st.SearchStrategy[Tree]:
    leaves = st.one_of(st.integers(-6, 9), st.sampled_from(sorted(SYMBOLS)))

    def extend(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        binary = st.tuples(st.sampled_from(sorted(OPERATIONS)), children, children)
        divided = st.tuples(
            st.sampled_from(["//", "%"]), children, st.one_of(st.integers(1, 7), st.sampled_from("bcd"))
        )
        return st.one_of(binary, divided) if divisions else st.tuples(st.sampled_from("+-*"), children, children)

    return st.recursive(leaves, extend, max_leaves=8)


def build(tree: Tree) -> Dimension:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return SYMBOLS[tree]
    word, left, right = tree
    first, second = build(left), build(right)
    if word in OPERATIONS:
        return OPERATIONS[word](first, second)
    return first // second if word == "//" else first % second


def value(tree: Tree, at: dict[str, int]) -> int:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return at[tree]
    word, left, right = tree
    return INTEGERS[word](value(left, at), value(right, at))


POINTS = st.fixed_dictionaries(
    {name: st.integers(low, 30 if high is None else high) for name, (low, high) in RANGES.items()}
)


@given(trees(), POINTS)
def test_an_expression_has_the_value_of_its_arithmetic(tree: Tree, at: dict[str, int]) -> None:
    assert evaluate(build(tree), at) == value(tree, at)


@given(trees(), POINTS)
# A negative numerator over an unbounded divisor approaches zero from below: floor(-5 / d) is -1 for a large d.
@example(("//", -5, "d"), {"a": 0, "b": 1, "c": 3, "d": 30})
@example(("//", ("-", 0, "b"), "d"), {"a": 0, "b": 5, "c": 3, "d": 30})
def test_bounds_contain_every_value(tree: Tree, at: dict[str, int]) -> None:
    low, high = bounds(build(tree))
    found = value(tree, at)
    assert low is None or low <= found
    assert high is None or found <= high


@given(trees(divisions=False), trees(divisions=False), trees(divisions=False))
def test_ring_laws_hold_as_equality_of_expressions(x: Tree, y: Tree, z: Tree) -> None:
    a, b, c = build(x), build(y), build(z)
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0
    assert a + 0 == a
    assert a * 1 == a
    assert a * 0 == 0


@given(trees(), st.integers(1, 9))
def test_a_multiple_divides_exactly(tree: Tree, divisor: int) -> None:
    dimension = build(tree)
    assert (dimension * divisor) // divisor == dimension
    assert (dimension * divisor) % divisor == 0


@given(trees(), trees(), st.lists(POINTS, min_size=1, max_size=5))
def test_a_comparison_is_decided_only_when_it_holds_everywhere(x: Tree, y: Tree, points: list[dict[str, int]]) -> None:
    left, right = build(x), build(y)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        try:
            decided = compare(left, right)
        except UndecidedError as error:
            assert "cannot tell" in str(error)  # noqa: PT017 - undecided is one of two right answers
            continue
        assert all(compare(value(x, at), value(y, at)) is decided for at in points)


@given(trees())
def test_msgpack_and_json_round_trips(tree: Tree) -> None:
    dimension = build(tree)
    for codec in (msgspec.msgpack, msgspec.json):
        decoded = codec.decode(codec.encode(dimension), type=Dimension)
        assert decoded == dimension
        assert hash(decoded) == hash(dimension)


@given(trees(divisions=False), POINTS)
def test_text_is_python_arithmetic(tree: Tree, at: dict[str, int]) -> None:
    text = str(build(tree))
    total = 0
    for term in text.replace("- ", "+ -").split(" + "):
        factors = 1
        for factor in term.split("*"):
            sign, name = (-1, factor[1:]) if factor.startswith("-") else (1, factor)
            factors *= sign * (at[name] if name in at else int(name))
        total += factors
    assert total == value(tree, at)


def test_text_of_operations_names_them() -> None:
    a, d = SYMBOLS["a"], SYMBOLS["d"]
    assert str((a + 1) // 4) == "((1 + a) // 4)"
    assert str(maximum(a, d)) == "max(a, d)"


@given(trees(), POINTS, st.sets(st.sampled_from(sorted(RANGES))))
def test_substitution_in_two_steps_is_substitution_at_once(tree: Tree, at: dict[str, int], first: set[str]) -> None:
    early = {name: number for name, number in at.items() if name in first}
    assert substitute(substitute(build(tree), early), at) == evaluate(build(tree), at)


@given(trees(divisions=False), POINTS)
def test_a_missing_symbol_is_named(tree: Tree, at: dict[str, int]) -> None:
    del at["a"]
    dimension = build(tree)
    if any(s.name == "a" for s in symbols(substitute(dimension, at))):
        with pytest.raises(KeyError, match=r"^'a'$"):
            evaluate(dimension, at)


def test_a_division_by_less_than_one_is_refused_wherever_it_appears() -> None:
    n, m = symbol("n", 0, 9), symbol("m", 0, 9)
    for attempt in (lambda: n // 0, lambda: n % 0, lambda: n // -2, lambda: n % -2):
        with pytest.raises(ZeroDivisionError, match="divided by"):
            attempt()
    for dimension in (n // (m - 5), n % (m - 5)):
        for wrong in (5, 2):
            with pytest.raises(ZeroDivisionError, match="divided by"):
                evaluate(dimension, {"n": 4, "m": wrong})


def test_symbols_of_one_value_are_integers() -> None:
    assert symbol("n", 3, 3) == 3
    assert unknown(0) == 0
    assert unknown(5, 5) == 5
    with pytest.raises(ValueError, match=r"'n' has an empty range 4\.\.3"):
        symbol("n", 4, 3)
    with pytest.raises(ValueError, match="empty range"):
        unknown(2, 3)


def test_unknown_takes_the_upper_end_of_a_symbolic_limit() -> None:
    n = symbol("n", 1, 6)
    found = unknown(n * 3)
    assert bounds(found) == (0, 18)
    assert [s.name for s in symbols(found)] == [UNKNOWN]
    assert bounds(unknown()) == (0, None)
    assert bounds(unknown(symbol("m"), 2)) == (2, None)


def test_extremes_that_the_ranges_settle_leave_no_symbol() -> None:
    n = symbol("n", 2, 8)
    assert maximum(n, 8) == 8
    assert minimum(n, 8) == n
    assert maximum(2, n) == n
    assert minimum(n, 2) == 2
    assert isinstance(maximum(n, 5), Dim)
    assert maximum(n, 5) == maximum(5, n)


def test_product_of_none_is_one() -> None:
    assert product([]) == 1
    assert product([symbol("n"), 0]) == 0
