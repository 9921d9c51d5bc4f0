from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import TensorInfo, TensorType, View, symbol
from tenonrt.dims import symbols
from tenonrt_layer_concatenation.concatenation import ConcatenationAttributes, ConcatenationLayer
from tenonrt_layer_concatenation.split import SplitAttributes, SplitLayer

N, M = symbol("N"), symbol("M")
JOIN, SPLIT = ConcatenationLayer(), SplitLayer()


def info(*shape, dtype="float32"):
    return TensorInfo(TensorType(shape, dtype))


def vector(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def sizes(*values):
    return TensorInfo(TensorType((len(values),), "int64"), "host", vector(*values))


def joined(axis, *shapes):
    return JOIN.infer(ConcatenationAttributes(axis), [info(*s) for s in shapes])[0].shape


def cut(shape, axis=0, parts=None, lengths=None):
    given = None if lengths is None else sizes(*lengths)
    return [o.shape[axis] for o in SPLIT.infer(SplitAttributes(axis, parts), [info(*shape), given])]


@pytest.mark.parametrize("layer", [JOIN, SPLIT])
def test_cases(check_cases, layer):
    check_cases(layer)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenation_equals_onnxruntime(oracle, rng, axis):
    shapes = [[2, 3, 4] for _ in range(3)]
    for extra, shape in enumerate(shapes):
        shape[axis] += extra
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    (result,) = JOIN.reference(ConcatenationAttributes(axis), arrays, None)
    np.testing.assert_array_equal(result, oracle("Concat", arrays, axis=axis)[0])


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_equal_split_equals_onnxruntime(oracle, parts):
    x = np.arange(14, dtype=np.float32).reshape(2, 7)
    results = SPLIT.reference(SplitAttributes(1, parts), [x], None)
    for result, expected in zip(results, oracle("Split", [x], outputs=parts, axis=1, num_outputs=parts), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_split_by_sizes_equals_onnxruntime(oracle):
    x, lengths = np.arange(14, dtype=np.float32).reshape(2, 7), np.array([2, 0, 5])
    results = SPLIT.reference(SplitAttributes(-1), [x, lengths], None)
    for result, expected in zip(results, oracle("Split", [x, lengths], outputs=3, axis=-1), strict=True):
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=50, deadline=None)
@given(array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.data())
def test_split_and_concatenation_agree_and_invert_each_other(agrees, shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    shape = list(shape)
    shape[axis] = sum(lengths)
    x = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    pieces = agrees(SPLIT, SplitAttributes(axis), [x, np.array(lengths, np.int64)])
    attrs = ConcatenationAttributes(axis)
    (whole,) = agrees(JOIN, attrs, pieces)
    np.testing.assert_array_equal(whole, x)
    view = JOIN.view(attrs, [info(*p.shape) for p in pieces], [info(*shape)])
    other = SPLIT.view(SplitAttributes(axis), [info(*shape)], [info(*p.shape) for p in pieces])
    assert (view.whole, other.whole, view.parts) == ("output", "input", other.parts)
    for part, piece in zip(view.parts, pieces, strict=True):
        np.testing.assert_array_equal(x[tuple(slice(*span) for span in part)], piece)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(1, 5))
def test_equal_parts_agree_with_reference(agrees, length, parts):
    x = np.arange(length, dtype=np.float32)
    if length < -(-length // parts) * (parts - 1):
        with pytest.raises(ValueError, match=f"length {length} cannot be cut into {parts} parts"):
            SPLIT.reference(SplitAttributes(0, parts), [x], None)
    else:
        agrees(SPLIT, SplitAttributes(0, parts), [x])


def test_concatenation_with_symbols():
    assert joined(1, (N, 2), (N, M)) == (N, M + 2)
    assert joined(0, (N, 2), (3, 2), (N, 2)) == (2 * N + 3, 2)
    assert joined(-1, (N, 2), (4, 2)) == (4, 4)


def test_views_with_symbols():
    attrs = ConcatenationAttributes(1)
    whole = (0, sys.maxsize, 1)
    view = JOIN.view(attrs, [info(N, 2, 4), info(N, M, 4)], [])
    assert view == View("output", ((whole, (0, 2, 1), (0, 4, 1)), (whole, (2, sys.maxsize, 1), (0, 4, 1))))
    assert JOIN.view(attrs, [info(N, M), info(N, 2)], []) is None


def test_split_with_symbols():
    assert cut((4 * N, 2), parts=2) == [2 * N, 2 * N]
    assert cut((2, N + M), axis=1, lengths=(N, M)) == [N, M]
    uneven = cut((N,), parts=2)
    assert TensorType(tuple(uneven)).concrete({"N": 7}) == (4, 3)
    unknown_sizes = TensorInfo(TensorType((2,), "int64"), "host")
    outputs = SPLIT.infer(SplitAttributes(), [info(5), unknown_sizes])
    assert [next(symbols(o.shape[0])).upper for o in outputs] == [5, 5]


def test_refusals():
    with pytest.raises(ValueError, match="axis 1 of input 1 is 4, expected 3"):
        joined(0, (2, 3), (2, 4))
    with pytest.raises(ValueError, match="axis is 2, expected one of the 2 axes"):
        joined(2, (2, 3))
    with pytest.raises(ValueError, match=r"one element type and rank, found float32\[2\] and float32\[2x3\]"):
        joined(0, (2,), (2, 3))
    with pytest.raises(ValueError, match="input 0 is missing"):
        joined(0)
    with pytest.raises(ValueError, match=r"sizes \['2', '2'\] do not make up the axis of length 5"):
        cut((5,), lengths=(2, 2))
    with pytest.raises(ValueError, match="either parts or the sizes"):
        cut((5,), parts=2, lengths=(2, 3))
    with pytest.raises(ValueError, match="found parts None"):
        cut((5,))


def test_known_values():
    (result,) = JOIN.reference(ConcatenationAttributes(0), [vector(N), vector(2, M)], None)
    assert result.tolist() == [N, 2, M]
    first, second = SPLIT.reference(SplitAttributes(0), [result, vector(1, 2)], None)
    assert (first.tolist(), second.tolist()) == ([N], [2, M])


def test_shapes_stay_on_the_host():
    shape = sizes(N, 2)
    known = TensorInfo(TensorType((1,), "int64"), "device", vector(7))
    assert JOIN.infer(ConcatenationAttributes(0), [shape, known])[0].place == "host"
    assert JOIN.infer(ConcatenationAttributes(0), [shape, info(1, dtype="int64")])[0].place == "device"


def test_samples_leave_out_absent_sizes():
    x, rng = TensorType((4, 3)), np.random.default_rng(0)
    alone = SPLIT.sample(SplitAttributes(0, 2), [x, None], rng)
    assert [a is None for a in alone] == [False, True]
    assert [y.shape for y in SPLIT.reference(SplitAttributes(0, 2), alone, None)] == [(2, 3), (2, 3)]
    both = SPLIT.sample(SplitAttributes(), [x, TensorType((3,), "int64")], rng)
    assert sum(y.shape[0] for y in SPLIT.reference(SplitAttributes(), both, None)) == 4
