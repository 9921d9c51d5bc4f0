"""Reformats against an element-by-element transcription of what a format means, and against quantization."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    NHWC,
    Attributes,
    Format,
    Problem,
    ProblemInput,
    ProblemLayer,
    Quant,
    TensorType,
    Weights,
    symbol,
)
from tenonrt_kernel_numpy.reformat import ReformatKernel


class ReformatAttributes(Attributes, frozen=True):
    source: Format
    target: Format


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


def stored(values: np.ndarray, layout: Format) -> np.ndarray:
    physical = np.zeros(TensorType(values.shape, format=layout).physical_shape, values.dtype)
    for index in product(*map(range, values.shape)):
        physical[place(index, layout)] = values[index]
    return physical


def problem(shape: tuple[Any, ...], source: Format, target: Format, dtype: str = "float32") -> Problem:
    layer = ProblemLayer("Reformat", ReformatAttributes(source, target), (0,), (1,))
    types = (TensorType(shape, dtype),) * 2
    return Problem((layer,), (ProblemInput("activation"),), types, (1,), "cpu")


def run(posed: Problem, source: np.ndarray, target: np.ndarray, *scales: Any) -> np.ndarray:
    kernel = ReformatKernel()
    assert kernel.supports(posed).ok, kernel.supports(posed).why
    [tactic] = kernel.tactics(posed)
    code = kernel.compile(posed, tactic)
    before, after = scales or (None, None)
    executable = kernel.bind(code, kernel.pack(code, Weights((), (before,), (after,))))
    executable.launch([source], [target], None, None)
    return target


@given(layouts(), st.data())
def test_any_layout_to_any_other(given_layout: tuple[tuple[int, ...], Format], data: st.DataObject) -> None:
    shape, source = given_layout
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    target = Format(order, ((data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(1, 5))),))
    values = np.arange(1, prod(shape) + 1, dtype=np.float32).reshape(shape)
    physical = np.full(TensorType(shape, format=target).physical_shape, np.nan, np.float32)
    run(problem(shape, source, target), stored(values, source), physical)
    assert np.array_equal(physical, stored(values, target))


def test_strided_operands() -> None:
    values = np.arange(2 * 5 * 3 * 4, dtype=np.float32).reshape(2, 5, 3, 4)
    wide, whole = np.zeros((2, 10, 3, 4), np.float32), np.full((2, 3, 4, 9), -1, np.float32)
    wide[:, ::2] = values
    run(problem(values.shape, LINEAR, NHWC), wide[:, ::2], whole[..., 2:7])
    assert np.array_equal(whole[..., 2:7], values.transpose(0, 2, 3, 1))
    assert (whole[..., [0, 1, 7, 8]] == -1).all()


@pytest.mark.parametrize("axis", [None, 1])
def test_quantize_and_back(axis: int | None) -> None:
    scale = np.float32(0.5) if axis is None else np.array([0.5, 0.25, 2], np.float32)
    spread = np.reshape(scale, (-1, 1)) if axis is not None else scale
    layout = Format((0, 2, 1), ((1, 2),), "int8", Quant(axis))
    values = np.array([[[-100, -0.25, 0.25], [0.75, 1.3, 9], [300, -3, 5.1]]], np.float32)
    expected = np.clip(np.rint(values / spread), -128, 127)  # NumPy rounds half to even, as ONNX QuantizeLinear
    quantized = np.empty(TensorType(values.shape, format=layout).physical_shape, np.int8)
    run(problem(values.shape, LINEAR, layout), values, quantized, None, scale)
    assert np.array_equal(quantized, stored(expected.astype(np.int8), layout))
    back = np.empty_like(values)
    run(problem(values.shape, layout, LINEAR), quantized, back, scale, None)
    assert np.array_equal(back, expected * spread)


def test_requantize() -> None:
    source, target = (Format(dtype=d, quant=Quant()) for d in ("int8", "uint8"))
    result = np.empty(4, np.uint8)
    run(problem((4,), source, target), np.array([-4, 3, 5, 127], np.int8), result, np.float32(2), np.float32(4))
    assert result.tolist() == [0, 2, 2, 64]  # 1.5 and 2.5 go to the even neighbour


def test_between_floating_point_types() -> None:
    values = np.array([1.0, 1.00390625, np.inf, np.nan], np.float32)
    result = np.empty(4, ml_dtypes.bfloat16)
    run(problem((4,), LINEAR, Format(dtype="bfloat16")), values, result)
    assert np.array_equal(result, values.astype(ml_dtypes.bfloat16), equal_nan=True)


def test_sizes_that_are_known_only_at_run_time() -> None:
    batch, channels = symbol("s0"), symbol("s1")
    support = ReformatKernel().supports(problem((batch, channels, 2, 2), NCHW16C, NHWC))
    assert support.runtime_symbols == ("s0",)
    assert ReformatKernel().supports(problem((batch, channels, 2, 2), NHWC, NCHW16C)).runtime_symbols == "all"
    for count in (1, 3):
        values = np.arange(count * 20 * 4, dtype=np.float32).reshape(count, 20, 2, 2)
        result = np.empty((count, 2, 2, 20), np.float32)
        run(problem((batch, 20, 2, 2), NCHW16C, NHWC), stored(values, NCHW16C), result)
        assert np.array_equal(result, values.transpose(0, 2, 3, 1))


INT8 = Format(dtype="int8", quant=Quant())


@pytest.mark.parametrize(
    ("posed", "why"),
    [
        (problem((2, 3), LINEAR, NHWC), "orders 4 axes"),
        (problem((2,), NCHW16C, LINEAR), "block outside"),
        (problem((2,), LINEAR, Format(dtype="int8")), "needs a quantization scheme"),
        (problem((2,), LINEAR, Format(dtype="int4", quant=Quant())), "known are int8, uint8"),
        (problem((2,), LINEAR, INT8, "int32"), "of floating-point tensors"),
        (problem((2,), LINEAR, Format(dtype="int8", quant=Quant(zero_point_dtype="int8"))), "zero points"),
        (problem((2,), LINEAR, Format(dtype="int8", quant=Quant(axis=0, block=2))), "blocks of scales"),
        (problem((2,), LINEAR, Format(dtype="int8", quant=Quant(axis=1))), "axis 1"),
    ],
)
def test_refusals_say_why(posed: Problem, why: str) -> None:
    support = ReformatKernel().supports(posed)
    assert not support.ok
    assert why in support.why


def test_a_missing_scale_is_named() -> None:
    posed = problem((2,), LINEAR, INT8)
    kernel = ReformatKernel()
    code = kernel.compile(posed, kernel.tactics(posed)[0])
    with pytest.raises(ValueError, match="no scale was given"):
        kernel.pack(code, Weights((), (None,), (None,)))
