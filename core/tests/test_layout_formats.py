"""Storage against an element-by-element transcription of what a format means."""

from __future__ import annotations

import sys
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    NHWC,
    Array,
    Format,
    Part,
    Quant,
    TensorType,
    from_storage,
    load,
    logical_shape,
    store,
    symbol,
    to_storage,
)
from tenonrt.layout import physical_part


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Format]:
    shape = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=4)))
    order = tuple(draw(st.permutations(range(len(shape))))) if draw(st.booleans()) else ()
    block = st.tuples(st.integers(0, len(shape) - 1), st.integers(1, 4))
    return shape, Format(order, tuple(draw(st.lists(block, max_size=3))))


def place(index: tuple[int, ...], layout: Format) -> tuple[int, ...]:
    """Where the element with this logical index is stored: the innermost block takes the lowest digit of its axis."""
    outer, inner = list(index), list[int]()
    for axis, size in reversed(layout.blocks):
        outer[axis], digit = divmod(outer[axis], size)
        inner.insert(0, digit)
    return (*(outer[axis] for axis in layout.order or range(len(index))), *inner)


def physical(values: Array, layout: Format) -> Array:
    shape = TensorType(TensorType(values.shape, format=layout).physical_shape).concrete({})
    stored = np.zeros(shape, values.dtype)
    for index in product(*map(range, values.shape)):
        stored[place(index, layout)] = values[index]
    return stored


def counted(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.arange(1, prod(shape) + 1, dtype=np.float32).reshape(shape)


@given(layouts())
def test_layouts_are_what_the_format_says(example: tuple[tuple[int, ...], Format]) -> None:
    shape, layout = example
    values = counted(shape)
    expected = physical(values, layout)
    out = np.full(expected.shape, np.nan, np.float32)
    store(values, layout, out)
    assert np.array_equal(out, expected)
    assert np.array_equal(load(expected, layout, shape), values)
    assert logical_shape(expected.shape, layout, shape) == shape
    type = TensorType(shape, format=layout)
    assert np.array_equal(to_storage(values, type), expected)
    assert np.array_equal(from_storage(expected, type), values)


@given(layouts())
def test_store_writes_into_a_slice_and_nothing_else(example: tuple[tuple[int, ...], Format]) -> None:
    shape, layout = example
    expected = physical(counted(shape), layout)
    whole = np.full([2 * n + 1 for n in expected.shape], -1, np.float32)
    part = tuple(slice(1, 2 * n + 1, 2) for n in expected.shape)
    store(counted(shape), layout, whole[part])
    assert np.array_equal(whole[part], expected)
    whole[part] = -1
    assert (whole == -1).all()


def test_loading_an_unblocked_format_is_a_view() -> None:
    stored = np.zeros((1, 2, 3, 4), np.float32)
    values = load(stored, NHWC, (1, 4, 2, 3))
    assert np.shares_memory(values, stored)
    assert values.shape == (1, 4, 2, 3)


def test_a_blocked_axis_needs_its_size() -> None:
    assert logical_shape((2, 3, 5, 5, 16), NCHW16C, (symbol("n"), 40, 5, 5)) == (2, 40, 5, 5)
    with pytest.raises(ValueError, match="axis 1 is stored in blocks, so its size must be known; it is c"):
        logical_shape((2, 3, 5, 5, 16), NCHW16C, (2, symbol("c"), 5, 5))


@pytest.mark.parametrize(("axis", "scale"), [(None, 0.5), (1, [0.5, 0.25, 2.0])])
def test_quantized_storage_rounds_to_even_and_saturates(axis: int | None, scale: Any) -> None:
    values = np.array([[-100, 0.25, 3], [0.75, 0.375, 300]], np.float32)
    type = TensorType((2, 3), format=Format((1, 0), dtype="int8", quant=Quant(axis)))
    stored = to_storage(values, type, np.asarray(scale, np.float32))
    expected = np.clip(np.rint(values / np.asarray(scale)), -128, 127)
    assert stored.dtype == np.int8
    assert np.array_equal(stored, expected.T)
    assert np.array_equal(from_storage(stored, type, np.asarray(scale, np.float32)), expected * np.asarray(scale))


def test_a_scalar_is_stored_as_an_array() -> None:
    stored = to_storage(np.asarray(np.float32(3)), TensorType((), "float32"))
    assert isinstance(stored, np.ndarray)
    assert stored.shape == ()
    assert from_storage(stored, TensorType(())) == 3


ALL = (0, sys.maxsize, 1)


@pytest.mark.parametrize(
    ("part", "format", "shape", "expected"),
    [
        (((0, 2, 1), (16, 48, 1), (0, 3, 1)), NCHW16C, (2, 64, 3), ((0, 2, 1), (1, 3, 1), (0, 3, 1), (0, 16, 1))),
        (((0, 2, 1), (16, 40, 1), (0, 3, 1)), NCHW16C, (2, 40, 3), ((0, 2, 1), (1, 3, 1), (0, 3, 1), (0, 16, 1))),
        (((0, 2, 1), (16, 40, 1), (0, 3, 1)), NCHW16C, (2, 64, 3), None),
        (((0, 2, 1), (8, 24, 1), (0, 3, 1)), NCHW16C, (2, 64, 3), None),
        (((0, 2, 1), (0, 32, 2), (0, 3, 1)), NCHW16C, (2, 64, 3), None),
        (((0, 2, 1), (0, 16, 1), (1, 3, 1)), NCHW16C, (2, 64, 3), None),
        ((ALL, (16, 32, 1)), NCHW16C, (symbol("n"), 32), (ALL, (1, 2, 1), (0, 16, 1))),
        (
            ((0, 1, 1), (2, 5, 1), (0, 3, 1), (1, 4, 2)),
            NHWC,
            (1, 8, 3, 4),
            ((0, 1, 1), (0, 3, 1), (1, 4, 2), (2, 5, 1)),
        ),
        (((1, 2, 1), (2, 5, 1)), LINEAR, (4, 8), ((1, 2, 1), (2, 5, 1))),
    ],
)
def test_a_slice_is_one_of_the_stored_array_where_it_cuts_no_block(
    part: Part, format: Format, shape: Any, expected: Part | None
) -> None:
    assert physical_part(part, format, shape) == expected
    if expected is not None and all(isinstance(size, int) for size in shape):
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        cut = values[tuple(slice(*bounds) for bounds in part)]
        stored = to_storage(values, TensorType(shape, "float32", format))
        shown = stored[tuple(slice(*bounds) for bounds in expected)]
        assert np.array_equal(shown, to_storage(cut, TensorType(cut.shape, "float32", format)))
