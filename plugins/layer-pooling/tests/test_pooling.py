from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tenonrt.contracts import FLOAT8, Case, Run, TensorInfo, TensorType, numpy_dtype, symbol
from tenonrt_layer_pooling.pooling import PoolingAttributes, PoolingLayer

LAYER = PoolingLayer()
CASES = [pytest.param(c, id=c.name) for c in LAYER.cases()]
ONNX_PADDING = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}


def values(case: Case) -> Any:
    rng, given = np.random.default_rng(0), case.inputs[0]
    return (rng.standard_normal(given.shape) * 10).astype(given.numpy)


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def onnx_attributes(attrs: PoolingAttributes) -> dict[str, Any]:
    zeros = (0,) * len(attrs.window)
    result: dict[str, Any] = {"kernel_shape": attrs.window, "ceil_mode": int(attrs.ceil)}
    if attrs.stride:
        result["strides"] = attrs.stride
    if attrs.dilation:
        result["dilations"] = attrs.dilation
    if attrs.padding_mode != "explicit":
        result["auto_pad"] = ONNX_PADDING[attrs.padding_mode]
    elif attrs.pre_padding or attrs.post_padding:
        result["pads"] = (*(attrs.pre_padding or zeros), *(attrs.post_padding or zeros))
    if attrs.function == "average":
        result["count_include_pad"] = int(attrs.count_includes_padding)
    if attrs.function == "lp":
        result["p"] = attrs.p
    if attrs.function == "max":
        result["storage_order"] = attrs.storage_order
    return result


def ask(oracle: Any, attrs: PoolingAttributes, x: Any) -> list[Any]:
    operator = {"max": "MaxPool", "average": "AveragePool", "lp": "LpPool"}[attrs.function]
    result: list[Any] = oracle(operator, [x], outputs=1 + attrs.with_indices, **onnx_attributes(attrs))
    return result


@pytest.mark.parametrize("case", [p for p in CASES if p.values[0].inputs[0].dtype != FLOAT8])  # of which it takes none
def test_agrees_with_onnxruntime(case: Case, oracle: Any, no_graphs: Run) -> None:
    x, attrs = values(case), case.attrs
    found = LAYER.reference(attrs, [x], no_graphs)
    if attrs.function == "max_average_blend":
        parts = {}
        for function in ("max", "average"):
            plain = {f: getattr(attrs, f) for f in attrs.__struct_fields__} | {"function": function}
            (parts[function],) = ask(oracle, PoolingAttributes(**plain), x)
        expected = [(1 - attrs.blend) * parts["max"] + attrs.blend * parts["average"]]
    else:
        expected = ask(oracle, attrs, x)
    assert found[0].dtype == x.dtype
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    if attrs.with_indices:
        assert found[1].dtype == np.int64
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("case", CASES)
def test_infer_agrees_with_reference_also_symbolically(case: Case, no_graphs: Run) -> None:
    x = values(case)
    found = LAYER.reference(case.attrs, [x], no_graphs)
    inferred = LAYER.infer(case.attrs, [info(*x.shape, dtype=x.dtype.name)])
    assert [(i.shape, i.dtype) for i in inferred] == [(f.shape, f.dtype.name) for f in found]
    symbols = [symbol(f"s{i}", 0 if i == 0 else 1) for i in range(x.ndim)]
    symbolic = LAYER.infer(case.attrs, [info(*symbols, dtype=x.dtype.name)])
    assert symbolic[0].type.concrete({f"s{i}": d for i, d in enumerate(x.shape)}) == found[0].shape


def plain_pooling(x: Any, attrs: PoolingAttributes, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The definition, one window at a time: the elements of each window that lie in the input."""
    y, places = np.zeros(shape), np.zeros(shape, np.int64)
    for n, c, *position in np.ndindex(*shape):
        inside, padded, where = [], 0, []
        for tap in np.ndindex(*attrs.window):
            at = [
                o * s - b + t * d
                for o, s, b, t, d in zip(position, attrs.stride, attrs.pre_padding, tap, attrs.dilation, strict=True)
            ]
            sizes, posts = x.shape[2:], attrs.post_padding
            if all(0 <= a < size for a, size in zip(at, sizes, strict=True)):
                inside.append(x[(n, c, *at)])
                where.append(np.ravel_multi_index((n, c, *at), x.shape))
            padded += all(a < size + post for a, size, post in zip(at, sizes, posts, strict=True))
        if attrs.function == "max":
            y[(n, c, *position)] = max(inside, default=-np.inf)
            places[(n, c, *position)] = where[int(np.argmax(inside))] if inside else -1
        elif attrs.function == "lp":
            y[(n, c, *position)] = sum(abs(v) ** attrs.p for v in inside) ** (1 / attrs.p)
        else:
            y[(n, c, *position)] = sum(inside) / max(1, padded if attrs.count_includes_padding else len(inside))
    return y, places


@st.composite
def poolings(draw: Any) -> tuple[PoolingAttributes, tuple[int, ...]]:
    rank = draw(st.integers(1, 2))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    window, dilation, stride = each(1, 4), each(1, 2), each(1, 4)
    extents = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    pre = tuple(draw(st.integers(0, min(3, e - 1))) for e in extents)
    post = tuple(draw(st.integers(0, min(3, e - 1))) for e in extents)
    sizes = [max(1, e - a - b) + draw(st.integers(0, 5)) for e, a, b in zip(extents, pre, post, strict=True)]
    function = draw(st.sampled_from(["max", "average", "lp"]))
    attrs = PoolingAttributes(
        function, window, stride, dilation, pre, post, ceil=draw(st.booleans()),
        count_includes_padding=draw(st.booleans()), with_indices=function == "max", p=draw(st.integers(1, 3)),
    )  # fmt: skip
    return attrs, (draw(st.integers(1, 2)), draw(st.integers(1, 2)), *sizes)


@settings(max_examples=100, deadline=None)
@given(poolings())
def test_random_poolings_follow_the_definition(example: tuple[PoolingAttributes, tuple[int, ...]]) -> None:
    attrs, shape = example
    x = np.random.default_rng(3).integers(-4, 4, shape).astype(np.float64)  # integers, so that there are ties
    found = LAYER.reference(attrs, [x], None)  # type: ignore[arg-type]
    inferred = LAYER.infer(attrs, [info(*shape, dtype="float64")])
    assert [i.shape for i in inferred] == [f.shape for f in found]
    expected, places = plain_pooling(x, attrs, found[0].shape)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    if attrs.with_indices:
        np.testing.assert_array_equal(found[1], places)
    symbols = [symbol(f"s{i}", 1) for i in range(len(shape))]
    symbolic = LAYER.infer(attrs, [info(*symbols, dtype="float64")])
    assert symbolic[0].type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == found[0].shape


@settings(max_examples=60, deadline=None)
@given(poolings())
def test_random_poolings_agree_with_onnxruntime(
    oracle: Any, example: tuple[PoolingAttributes, tuple[int, ...]]
) -> None:
    attrs, shape = example
    pads = zip(attrs.pre_padding, attrs.post_padding, attrs.window, strict=True)
    assume(all(a < w and b < w for a, b, w in pads))  # onnxruntime leaves the dilation out of this condition
    x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    for found, expected in zip(LAYER.reference(attrs, [x], None), ask(oracle, attrs, x), strict=True):  # type: ignore[arg-type]
        assert found.shape == expected.shape
        if attrs.function == "max":
            met = found > -np.inf if found.dtype.kind == "f" else found >= 0
            np.testing.assert_array_equal(found[met], expected[met])
        else:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_ceil_drops_windows_that_start_in_the_end_padding() -> None:
    attrs = PoolingAttributes("max", (2,), (2,), pre_padding=(1,), post_padding=(1,), ceil=True)
    # Padded, the axis has 5 elements: the third window would start at the padding that follows the input.
    assert LAYER.infer(attrs, [info(1, 1, 3)])[0].shape == (1, 1, 2)
    assert LAYER.infer(attrs, [info(1, 1, 4)])[0].shape == (1, 1, 3)


def test_maxima_of_narrow_floats_are_those_of_what_they_stand_for(no_graphs: Run) -> None:
    attrs = PoolingAttributes("max", (3,), (2,), pre_padding=(1,))
    stored = np.random.default_rng(0).standard_normal((2, 3, 9)).astype(numpy_dtype(FLOAT8))
    (found,) = LAYER.reference(attrs, [stored], no_graphs)
    assert found.dtype == stored.dtype
    padded = np.pad(stored.astype(np.float64), ((0, 0), (0, 0), (1, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=2)[:, :, ::2]
    np.testing.assert_array_equal(found.astype(np.float64), windows.max(axis=-1))


def test_nan_propagates_and_is_the_index(no_graphs: Run) -> None:
    x = np.array([[[1.0, np.nan, 3.0, 4.0]]])
    values, places = LAYER.reference(PoolingAttributes("max", (2,), with_indices=True), [x], no_graphs)
    np.testing.assert_array_equal(values, [[[np.nan, np.nan, 4.0]]])
    np.testing.assert_array_equal(places, [[[1, 1, 3]]])
    np.testing.assert_array_equal(LAYER.reference(PoolingAttributes("max", (2,)), [x], no_graphs)[0], values)


def test_an_index_never_points_at_padding(no_graphs: Run) -> None:
    x = np.full((1, 1, 3), -np.inf)
    attrs = PoolingAttributes("max", (3,), pre_padding=(2,), post_padding=(2,), with_indices=True)
    _, places = LAYER.reference(attrs, [x], no_graphs)
    np.testing.assert_array_equal(places, [[[0, 0, 0, 1, 2]]])


@pytest.mark.parametrize(("dtype", "function"), [*itertools.product(["float16", "bfloat16"], ["average", "max", "lp"])])
def test_narrow_floats_are_summed_in_float32(dtype: str, function: Any, no_graphs: Run) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (1, 2, 64, 64)).astype(TensorType((), dtype).numpy)
    attrs = PoolingAttributes(function, (64, 64))
    (found,) = LAYER.reference(attrs, [x], no_graphs)
    (expected,) = LAYER.reference(attrs, [x.astype(np.float64)], no_graphs)
    assert found.dtype.name == dtype
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2.0**-10 if dtype == "float16" else 2.0**-7)


def test_inputs_are_left_alone(no_graphs: Run) -> None:
    for case in LAYER.cases():
        x = values(case)
        copy = x.copy()
        x.flags.writeable = False
        for found in LAYER.reference(case.attrs, [x], no_graphs):
            assert not np.shares_memory(found, x)
        assert (x == copy).all()


IMAGE = info(1, 4, 8, 8)


@pytest.mark.parametrize(
    ("attrs", "source", "message"),
    [
        ({"function": "min"}, IMAGE, "function is 'min'"),
        ({"window": (2,)}, IMAGE, r"window is \(2,\), expected a size for each spatial axis"),
        ({"window": (0, 2)}, IMAGE, r"window is \(0, 2\)"),
        ({"window": (9, 2)}, IMAGE, "spanning 9 does not fit into a padded size of 8"),
        ({"stride": (0, 1)}, IMAGE, r"stride is \(0, 1\), expected values of at least 1"),
        ({"pre_padding": (2, 0)}, IMAGE, "axis 2 is padded by 2 and 0, expected less than the window's 2"),
        ({"function": "lp", "with_indices": True}, IMAGE, "with_indices is set for 'lp'"),
        ({"function": "lp", "p": 0}, IMAGE, "p is 0"),
        ({"storage_order": 2}, IMAGE, "storage_order is 2"),
        ({"padding_mode": "same"}, IMAGE, "padding_mode is 'same'"),
        ({"function": "average"}, info(1, 4, 8, 8, dtype="int8"), "input is int8.*for 'average'"),
        ({}, info(4, 8), "expected .N, C. and 1 to 3 spatial axes"),
    ],
)
def test_refusals_say_what_was_found(attrs: Any, source: TensorInfo, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYER.infer(PoolingAttributes(**({"function": "max", "window": (2, 2)} | attrs)), [source])


def test_of_equal_maxima_the_first_in_row_order_is_found() -> None:
    """The one in the first row wins over the one in the first column."""
    x = np.array([[[[0, 1], [1, 0]]]], np.float32)
    values, places = LAYER.reference(PoolingAttributes("max", (2, 2), with_indices=True), [x], None)  # type: ignore[arg-type]
    assert (values.item(), places.item()) == (1, 1)
