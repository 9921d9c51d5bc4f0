"""Shape rules against NumPy, and symbolic ones against their values."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from tenonrt.contracts import (
    Dimension,
    TensorInfo,
    TensorType,
    broadcast,
    broadcasts_to,
    common_place,
    differ,
    known_values,
    maximum,
    minimum,
    normalize_axes,
    normalize_axis,
    optional,
    required,
    same,
    surely_less,
    symbol,
    vector_length,
    working_dtype,
)

SIZES = st.integers(0, 4)


def symbolic(value: int, lower: int = 0) -> Dimension:
    """A symbol named by its value, so that `value_of` finds it again."""
    return symbol(f"n{value}", lower)


def value_of(dimension: Dimension) -> int:
    return TensorType((dimension,)).concrete({f"n{i}": i for i in range(10)})[0]


def test_required_names_the_missing_input() -> None:
    assert required(["a", "b", None], 2) == ["a", "b"]
    for operands in (["a"], ["a", None]):
        with pytest.raises(ValueError, match="input 1 is missing; 2 inputs are required"):
            required(operands, 2)


def test_optional() -> None:
    assert [optional(["a", None], i) for i in range(3)] == ["a", None, None]


@given(st.integers(1, 6), st.integers(-8, 8))
def test_normalize_axis_is_python_indexing(rank: int, axis: int) -> None:
    if -rank <= axis < rank:
        assert normalize_axis(axis, rank) == list(range(rank))[axis]
    else:
        with pytest.raises(ValueError, match=f"axis is {axis}, expected one of the {rank} axes"):
            normalize_axis(axis, rank)


def test_normalize_axes() -> None:
    assert normalize_axes((-1, 0), 3) == (2, 0)
    assert normalize_axes((), 0) == ()
    with pytest.raises(ValueError, match=r"axes \[0, -2\] name an axis of a tensor of rank 2 twice"):
        normalize_axes((0, -2), 2)
    with pytest.raises(ValueError, match="axis is 0, expected one of the 0 axes"):
        normalize_axes((0,), 0)


@given(mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=4), st.data())
def test_broadcast_is_that_of_numpy(shapes: object, data: st.DataObject) -> None:
    given_shapes = shapes.input_shapes  # type: ignore[attr-defined]
    assert broadcast(*given_shapes) == shapes.result_shape  # type: ignore[attr-defined]
    mixed = [tuple(symbolic(d) if data.draw(st.booleans()) else d for d in shape) for shape in given_shapes]
    assert tuple(map(value_of, broadcast(*mixed))) == shapes.result_shape  # type: ignore[attr-defined]
    assert all(broadcasts_to(shape, shapes.result_shape) for shape in mixed)  # type: ignore[attr-defined]


@given(st.lists(SIZES, max_size=3), st.lists(SIZES, max_size=3))
def test_broadcast_refuses_what_numpy_refuses(left: list[int], right: list[int]) -> None:
    try:
        expected = np.broadcast_shapes(tuple(left), tuple(right))
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast: axis -"):
            broadcast(left, right)
    else:
        assert broadcast(left, right) == expected
        assert broadcasts_to(left, right) == (expected == tuple(right))


def test_broadcast_of_symbols() -> None:
    n, m, large = symbol("n"), symbol("m", 1), symbol("k", 2, 3)
    assert broadcast((n, 1), (1, n)) == (n, n)
    assert broadcast((n,), (8,)) == (8,)
    assert broadcast((m,), (symbol("l", 1),)) == (maximum(m, symbol("l", 1)),)
    with pytest.raises(ValueError, match="shapes 2xk and 5 do not broadcast: axis -1 has k and 5"):
        broadcast((2, large), (5,))
    assert not broadcasts_to((large,), (5,))
    assert broadcasts_to((n,), (5,))
    assert not broadcasts_to((1, 5), (5,))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_what_is_certain_holds_for_every_value(a: int, b: int, c: int, d: int) -> None:
    left, right = symbol("l", min(a, b), max(a, b)), symbol("r", min(c, d), max(c, d))
    lefts, rights = range(min(a, b), max(a, b) + 1), range(min(c, d), max(c, d) + 1)
    assert surely_less(left, right) == all(x < y for x in lefts for y in rights)
    assert differ(left, right) == (not set(lefts) & set(rights))


def test_differ_sees_through_arithmetic() -> None:
    n = symbol("n")
    assert differ(n, n + 1)
    assert differ(2 * n + 3, 2 * n)
    assert not differ(n, n)
    assert not differ(n, 2 * n)


def test_same() -> None:
    n = symbol("n")
    assert same(3, 3, "axis 0") == 3
    assert same(n, 3, "axis 0") == same(3, n, "axis 0") == 3
    assert same(n, n + 0, "axis 0") == n
    for expected, found in ((3, 4), (n, n + 1)):
        with pytest.raises(ValueError, match="axis 0 is"):
            same(expected, found, "axis 0")


def test_common_place() -> None:
    device, host = TensorInfo(TensorType((1,))), TensorInfo(TensorType((1,)), "host")
    known = TensorInfo(TensorType((1,)), value=np.array([1], object))
    assert common_place([host, known]) == "host"
    assert common_place([host, device]) == common_place([known, known]) == "device"


def test_shape_inputs() -> None:
    n = symbol("n")
    info = TensorInfo(TensorType((2,), "int64"), "host", np.array([n, np.int64(4)], object))
    assert vector_length(info, "the shape") == 2
    values = known_values(info)
    assert values == [n, 4]
    assert type(values[1]) is int
    assert known_values(TensorInfo(TensorType((2,), "int64"))) is None
    for wrong in (TensorType((n,), "int64"), TensorType((2,), "float32"), TensorType((), "int64")):
        with pytest.raises(
            ValueError, match="the shape must be a vector of int32 or int64 with a static length, found"
        ):
            vector_length(TensorInfo(wrong), "the shape")


def test_working_dtype() -> None:
    narrow = (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2)
    assert {working_dtype(np.dtype(d)) for d in narrow} == {np.dtype(np.float32)}
    for kept in (np.float32, np.float64, np.int8, np.bool_, np.complex64, object):
        assert working_dtype(np.dtype(kept)) == kept


def test_a_zero_wins_over_a_one() -> None:
    n, m = symbol("n0"), symbol("n1")
    assert value_of(broadcast((n,), (m,))[0]) == 0
    assert value_of(minimum(n, m)) == 0
