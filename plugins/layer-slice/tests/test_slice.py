from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from tenonrt.contracts import Attributes, TensorInfo, TensorType, View, minimum, symbol
from tenonrt.dims import evaluate, symbols
from tenonrt_layer_slice.slice import SliceLayer
from tenonrt_layer_slice.span import taken

LAYER = SliceLayer()
N, L = symbol("N"), symbol("L", 1)
END, BEGIN = np.iinfo(np.int64).max, np.iinfo(np.int64).min
WHOLE = (0, sys.maxsize, 1)


def info(*shape, dtype="float32"):
    return TensorInfo(TensorType(shape, dtype))


def vector(*values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def host(values):
    return None if values is None else TensorInfo(TensorType((len(values),), "int64"), "host", vector(*values))


def infos(shape, *vectors):
    return [info(*shape), *(host(v) for v in vectors)]


def infer(shape, *vectors):
    return LAYER.infer(Attributes(), infos(shape, *vectors))[0].shape


def test_cases(check_cases):
    check_cases(LAYER)


EXAMPLES = [
    ([1, 2], [4, 6], None, None),
    ([-3], [END], [1], None),
    ([0, 1], [5, 7], [1, 0], [2, 3]),
    ([-1, END], [BEGIN, 2], [0, -1], [-1, -2]),
    ([-20], [BEGIN], [0], [-1]),
    ([20], [-20], [0], [-2]),
    ([4], [1], [0], None),
    ([100], [200], [1], None),
    ([2], [-1], [-1], [1]),
]


@pytest.mark.parametrize("vectors", EXAMPLES)
def test_equals_onnxruntime(oracle, vectors):
    x = np.arange(35, dtype=np.float32).reshape(5, 7)
    arrays = [x, *(None if v is None else np.array(v, np.int64) for v in vectors)]
    (result,) = LAYER.reference(Attributes(), arrays, None)
    while arrays[-1] is None:
        arrays.pop()
    np.testing.assert_array_equal(result, oracle("Slice", arrays)[0])


@settings(max_examples=150, deadline=None)
@given(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5), st.data())
def test_infer_agrees_with_reference(agrees, shape, data):
    axes = data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(0, len(shape)))]
    position = st.integers(-7, 7) | st.sampled_from([END, BEGIN])
    starts, ends = ([data.draw(position) for _ in axes] for _ in range(2))
    steps = [data.draw(st.integers(-3, 3).filter(bool)) for _ in axes]
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    given_arrays = [np.array(v, np.int64) for v in (starts, ends, axes, steps)]
    (result,) = agrees(LAYER, Attributes(), [x, *given_arrays])
    view = LAYER.view(Attributes(), infos(shape, starts, ends, axes, steps), [])
    assert (view is None) == any(s < 0 for s in steps)
    if view is not None:
        np.testing.assert_array_equal(x[tuple(slice(*span) for span in view.parts[0])], result)


@settings(max_examples=150)
@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(-3, 3).filter(bool), st.integers(1, 8))
def test_symbolic_lengths_have_the_values_of_concrete_ones(start, end, step, length):
    plain, mixed = (
        [(start, end), (start, END), (END, BEGIN)],
        [(L + abs(start), end), (start, L + abs(end)), (start, L)],
    )
    for begin, stop in plain + mixed:
        symbolic = taken(begin, stop, step, L)
        if not any(s.name == "?" for s in symbols(symbolic)):
            concrete = (evaluate(v, {"L": length}) for v in (begin, stop))
            assert evaluate(symbolic, {"L": length}) == taken(*concrete, step, length)


def test_symbols():
    assert infer((N, 4), [0], [END], [0]) == (N, 4)
    assert infer((L, 4), [1], [END], [0]) == (L - 1, 4)
    assert infer((L, 4), [-1], [END], [0]) == (1, 4)
    assert infer((L, 4), [0], [-1], [0]) == (L - 1, 4)
    assert infer((2 * N, 4), [0], [END], [0], [2]) == (N, 4)
    assert infer((N, 4), [0], [N], [0]) == (N, 4)
    assert infer((8, 4), [0], [N], [0]) == (minimum(8, N), 4)
    assert infer((N, 4), [-1], [BEGIN], [0], [-1]) == (N, 4)
    assert infer((N, 4), [1], [3], [1]) == (N, 2)


def test_what_is_not_known_is_bounded_by_the_axis():
    missing = TensorInfo(TensorType((1,), "int64"), "host")
    (some,) = LAYER.infer(Attributes(), [info(5, 7), missing, host([3]), host([1]), None])
    assert some.shape[0] == 5
    assert next(symbols(some.shape[1])).upper == 7
    (all_axes,) = LAYER.infer(Attributes(), [info(5, 7), host([0]), host([3]), missing, None])
    assert [next(symbols(d)).upper for d in all_axes.shape] == [5, 7]
    assert LAYER.view(Attributes(), [info(5), missing, host([3]), None, None], []) is None
    assert next(symbols(infer((N,), [N - 3], [END])[0])).name == "?"


def test_views():
    def view(shape, *vectors):
        return LAYER.view(Attributes(), infos(shape, *vectors), [])

    assert view((5, 7), [1], [-1], [1], [2]) == View("input", (((0, 5, 1), (1, 6, 2)),))
    assert view((N, 7), [2], [END], [1]) == View("input", ((WHOLE, (2, 7, 1)),))
    assert view((N, 7), [2], [END], [0]) == View("input", (((2, sys.maxsize, 1), (0, 7, 1)),))
    assert view((N, 7), [-1], [END], [0]) is None
    assert view((5, 7), [0], [N], [0]) is None
    assert view((5, 7), [4], [0], [0], [-1]) is None


def test_refusals():
    with pytest.raises(ValueError, match=r"one length up to the rank 2, found \[1, 2\]"):
        infer((5, 7), [0], [1, 2])
    with pytest.raises(ValueError, match=r"up to the rank 1, found \[2, 2\]"):
        infer((5,), [0, 0], [1, 2])
    with pytest.raises(ValueError, match="name an axis of a tensor of rank 2 twice"):
        infer((5, 7), [0, 0], [1, 1], [1, -1])
    with pytest.raises(ValueError, match="must not be zero"):
        infer((5, 7), [0], [1], [0], [0])
    with pytest.raises(ValueError, match=r"with a static length, found float32\[1\]"):
        LAYER.infer(Attributes(), [info(5), info(1), host([1]), None, None])


def test_known_values():
    arrays = [vector(N, 2, N + 1), vector(2), vector(BEGIN), vector(0), vector(-1)]
    (result,) = LAYER.reference(Attributes(), arrays, None)
    assert result.tolist() == [N + 1, 2, N]


@pytest.mark.parametrize("absent", [(), (3,), (4,), (3, 4)])
def test_samples_leave_out_what_is_absent(absent):
    vectors = [TensorType((2,), "int64")] * 4
    types = [None if i in absent else t for i, t in enumerate([TensorType((3, 4)), *vectors])]
    arrays = LAYER.sample(Attributes(), types, np.random.default_rng(0))
    assert [i for i, a in enumerate(arrays) if a is None] == list(absent)
    (result,) = LAYER.reference(Attributes(), arrays, None)
    np.testing.assert_array_equal(result, arrays[0])  # everything is taken
