"""Storage formats against a transcription of their definition that moves one element at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import NCHW16C, NHWC, Format, Quant, TensorType, from_storage, numpy_dtype, to_storage

EXACT = ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64", "bfloat16", "complex64", "int4"]


@st.composite
def formats(draw: st.DrawFn, rank: int) -> Format:
    order = draw(st.one_of(st.just(()), st.permutations(range(rank)).map(tuple)))
    axes = st.integers(0, rank - 1)
    blocks = draw(st.lists(st.tuples(axes, st.sampled_from([1, 2, 3, 4, 16])), max_size=3)) if rank else []
    return Format(order, tuple(blocks))


@st.composite
def tensors(draw: st.DrawFn) -> TensorType:
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=4)))
    return TensorType(shape, draw(st.sampled_from(EXACT)), draw(formats(len(shape))))


def drawn(type: TensorType, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2 if type.dtype == "bool" else 8, type.concrete({})).astype(numpy_dtype(type.dtype))


def place_one_by_one(values: np.ndarray[Any, Any], type: TensorType) -> np.ndarray[Any, Any]:
    """The definition: from the innermost block outwards, each takes the low digit that is left of its axis."""
    rank, layout = type.rank, type.format
    outer, inner = list(values.shape), []
    for axis, size in layout.blocks:
        outer[axis] = math.ceil(outer[axis] / size)
        inner.append(size)
    order = layout.order or tuple(range(rank))
    stored = np.zeros([outer[a] for a in order] + inner, values.dtype)
    for where in itertools.product(*map(range, values.shape)):
        coordinate, low = list(where), list[int]()
        for axis, size in reversed(layout.blocks):
            coordinate[axis], digit = divmod(coordinate[axis], size)
            low.insert(0, digit)
        stored[tuple([coordinate[a] for a in order] + low)] = values[where]
    return stored


@given(tensors())
def test_storage_is_the_definition_element_by_element(type: TensorType) -> None:
    values = drawn(type)
    stored = to_storage(values, type)
    expected = place_one_by_one(values, type)
    assert stored.shape == expected.shape == type.physical_shape
    assert stored.dtype == expected.dtype == type.numpy
    assert stored.tobytes() == expected.tobytes()
    assert stored.nbytes == type.nbytes
    assert stored.flags.c_contiguous


@given(tensors())
def test_what_is_stored_comes_back(type: TensorType) -> None:
    values = drawn(type)
    returned = from_storage(to_storage(values, type), type)
    assert returned.dtype == values.dtype
    assert returned.shape == values.shape
    assert returned.tobytes() == values.tobytes()


def test_named_formats() -> None:
    values = np.arange(2 * 17 * 3 * 5, dtype=np.float32).reshape(2, 17, 3, 5)
    nhwc, blocked = TensorType(values.shape, format=NHWC), TensorType(values.shape, format=NCHW16C)
    assert np.array_equal(to_storage(values, nhwc), values.transpose(0, 2, 3, 1))
    stored = to_storage(values, blocked)
    assert stored.shape == (2, 2, 3, 5, 16)
    assert np.array_equal(stored[:, 0].transpose(0, 3, 1, 2), values[:, :16])
    assert np.array_equal(stored[:, 1, ..., 0], values[:, 16])
    assert not stored[:, 1, ..., 1:].any()


def test_an_axis_blocked_twice_is_padded_to_both() -> None:
    """The weights of a 4i16o4i convolution: 20 input channels are padded to 32 for two blocks of 4 and 4."""
    type = TensorType((16, 20), format=Format(blocks=((1, 4), (0, 16), (1, 4))))
    values = np.arange(320, dtype=np.float32).reshape(16, 20)
    stored = to_storage(values, type)
    assert stored.shape == type.physical_shape == (1, 2, 4, 16, 4)
    assert stored[0, 1, 0, 3, 2] == values[3, 1 * 16 + 0 * 4 + 2]  # four consecutive inputs are innermost
    assert np.array_equal(from_storage(stored, type), values)


SCHEMES = [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767), ("int4", -8, 7)]


def quantize_one_by_one(values: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], low: int, high: int) -> list[int]:
    steps = (
        round(float(v) / float(s)) for v, s in zip(values.flat, np.broadcast_to(scale, values.shape).flat, strict=True)
    )
    return [min(max(step, low), high) for step in steps]


@pytest.mark.parametrize(("stored", "low", "high"), SCHEMES)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
@pytest.mark.parametrize("layout", [Format(), Format((2, 0, 1)), Format(blocks=((1, 4),))])
def test_quantized_storage(stored: str, low: int, high: int, axis: int | None, layout: Format) -> None:
    rng = np.random.default_rng(3)
    shape = (3, 6, 5)
    values = (rng.standard_normal(shape) * 4).astype(np.float32)
    values[0, 0, :2] = 1e6, -1e6  # saturates
    scale = np.float32(0.25) if axis is None else rng.uniform(0.1, 0.9, shape[axis]).astype(np.float32)
    spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(3)])
    type = TensorType(shape, format=Format(layout.order, layout.blocks, stored, Quant(axis)))
    physical = to_storage(values, type, np.asarray(scale))
    assert physical.dtype == numpy_dtype(stored)
    steps = np.array(quantize_one_by_one(values, np.asarray(spread), low, high)).reshape(shape)
    logical = TensorType(shape, stored, Format(layout.order, layout.blocks))
    assert np.array_equal(from_storage(physical, logical).astype(np.int64), steps)
    restored = from_storage(physical, type, np.asarray(scale))
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, steps * np.asarray(spread, np.float64), rtol=1e-6)


def test_a_block_of_elements_shares_one_scale() -> None:
    """Quant(axis=1, block=4): ten columns have three scales a row; scales have the tensor's rank."""
    rng = np.random.default_rng(4)
    values = rng.standard_normal((2, 10)).astype(np.float32)
    scale = rng.uniform(0.01, 0.05, (2, 3)).astype(np.float32)
    type = TensorType((2, 10), format=Format(dtype="int8", quant=Quant(1, 4)))
    stored = to_storage(values, type, scale)
    for row, column in itertools.product(range(2), range(10)):
        step = round(float(values[row, column]) / float(scale[row, column // 4]))
        assert int(stored[row, column]) == min(max(step, -128), 127)
    wide = np.repeat(scale, 4, axis=1)[:, :10]
    np.testing.assert_allclose(from_storage(stored, type, scale), stored * wide.astype(np.float64), rtol=1e-6)


def test_narrower_float_storage_rounds_to_nearest() -> None:
    values = np.array([1.0, 1.00390625, 3.14159, -2.5e-3], np.float32)
    for name in ("float16", "bfloat16"):
        type = TensorType((4,), format=Format(dtype=name))
        expected = values.astype(getattr(ml_dtypes, name, np.float16))
        assert to_storage(values, type).tobytes() == expected.tobytes()
        assert from_storage(to_storage(values, type), type).dtype == np.float32


def test_a_tensor_scaled_into_eight_bit_floats_keeps_their_fractions() -> None:
    values = np.array([0.75, -3.0, 1e4], np.float32)
    type = TensorType((3,), format=Format(dtype="float8_e4m3fn", quant=Quant()))
    stored = to_storage(values, type, np.float32(2.0))
    assert stored.astype(np.float32).tolist() == [0.375, -1.5, 448.0]
    assert from_storage(stored, type, np.float32(2.0)).tolist() == [0.75, -3.0, 896.0]
