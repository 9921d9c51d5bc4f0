from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_normalization.batch import BatchNormalizationAttributes, BatchNormalizationLayer
from tenonrt_layer_normalization.group import GroupNormalizationAttributes, GroupNormalizationLayer
from tenonrt_layer_normalization.instance import InstanceNormalizationLayer
from tenonrt_layer_normalization.layer import LayerNormalizationAttributes, LayerNormalizationLayer
from tenonrt_layer_normalization.lp import LpNormalizationLayer
from tenonrt_layer_normalization.rms import RmsNormalizationAttributes, RmsNormalizationLayer

LAYERS: dict[str, Any] = {
    "BatchNormalization": BatchNormalizationLayer(),
    "LayerNormalization": LayerNormalizationLayer(),
    "RMSNormalization": RmsNormalizationLayer(),
    "InstanceNormalization": InstanceNormalizationLayer(),
    "GroupNormalization": GroupNormalizationLayer(),
    "LpNormalization": LpNormalizationLayer(),
}
CASES = [pytest.param(op, c, id=f"{op}-{c.name}") for op, layer in LAYERS.items() for c in layer.cases()]


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


def infos(arrays: list[Any]) -> list[TensorInfo | None]:
    return [None if a is None else info(*a.shape, dtype=a.dtype.name) for a in arrays]


def values(layer: Any, case: Case) -> list[Any]:
    if isinstance(case.inputs[0], np.ndarray):
        return list(case.inputs)
    drawn = layer.sample(case.attrs, case.inputs, np.random.default_rng(0))
    assert [a is None for a in drawn] == [t is None for t in case.inputs]
    return list(drawn)


def onnx_call(operator: str, attrs: Any, arrays: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """ONNX wants the scale, and the bias of a group normalization: ones and zeros where the layer has none."""
    fields = {f: getattr(attrs, f) for f in attrs.__struct_fields__}
    arrays = list(arrays)
    if operator == "LayerNormalization" and fields.pop("statistics"):
        fields["outputs"] = 3
    if operator in {"LayerNormalization", "RMSNormalization"} and arrays[1] is None:
        arrays[1] = np.ones(arrays[0].shape[attrs.axis :], np.float32)
    if operator == "GroupNormalization":
        fields["num_groups"] = fields.pop("groups")
        channels = arrays[0].shape[1]
        arrays[1:] = [arrays[1] if arrays[1] is not None else np.ones(channels, np.float32), arrays[2]]
        arrays[2] = arrays[2] if arrays[2] is not None else np.zeros(channels, np.float32)
    return arrays, fields | {"opset": 23 if operator == "RMSNormalization" else 22}


@pytest.mark.parametrize(("operator", "case"), CASES)
def test_agrees_with_onnxruntime(operator: str, case: Case, oracle: Any, no_graphs: Run) -> None:
    if (operator, case.name) == ("GroupNormalization", "empty batch"):
        pytest.skip("onnxruntime 1.32 cannot reshape it")
    arrays = values(LAYERS[operator], case)
    inputs, fields = onnx_call(operator, case.attrs, arrays)
    expected = oracle(operator, inputs, **fields)
    found = LAYERS[operator].reference(case.attrs, arrays, no_graphs)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == np.float32
        assert f.shape == e.shape
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("operator", "case"), CASES)
def test_infer_agrees_with_reference_also_symbolically(operator: str, case: Case, no_graphs: Run) -> None:
    layer = LAYERS[operator]
    arrays = values(layer, case)
    found = layer.reference(case.attrs, arrays, no_graphs)
    inferred = layer.infer(case.attrs, infos(arrays))
    assert [(i.shape, i.dtype) for i in inferred] == [(f.shape, f.dtype.name) for f in found]
    shape = arrays[0].shape
    symbolic = layer.infer(case.attrs, [info(*(symbol(f"s{i}") for i in range(len(shape)))), *infos(arrays)[1:]])
    sizes = {f"s{i}": d for i, d in enumerate(shape)}
    assert [i.type.concrete(sizes) for i in symbolic] == [f.shape for f in found]


SHAPES = npst.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.data())
def test_random_axes_have_mean_zero_and_variance_one(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    attrs = LayerNormalizationAttributes(axis, epsilon=0.0, statistics=True)
    x = np.random.default_rng(1).standard_normal(shape)
    y, mean, inverse = LAYERS["LayerNormalization"].reference(attrs, [x, None, None], None)
    axes = tuple(range(axis % len(shape), len(shape)))
    inferred = LAYERS["LayerNormalization"].infer(attrs, [info(*shape, dtype="float64")])
    assert [i.shape for i in inferred] == [y.shape, mean.shape, inverse.shape]
    np.testing.assert_allclose(mean, x.mean(axes, keepdims=True), atol=1e-12)
    if np.prod([shape[a] for a in axes]) > 1:
        np.testing.assert_allclose(inverse, 1 / x.std(axes, keepdims=True), rtol=1e-9)
        np.testing.assert_allclose(y, (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True), rtol=1e-9)
    (r,) = LAYERS["RMSNormalization"].reference(RmsNormalizationAttributes(axis, epsilon=0.0), [x, None], None)
    np.testing.assert_allclose((r * r).mean(axes), 1, rtol=1e-9)
    for p in (1, 2):
        layer = LAYERS["LpNormalization"]
        (n,) = layer.reference(layer.Attrs(axis, p), [x], None)
        np.testing.assert_allclose(np.linalg.norm(n, ord=p, axis=axis), 1, rtol=1e-9)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 3))
def test_groups_are_instances_of_reshaped_images(shape: tuple[int, ...], groups: int) -> None:
    shape = (shape[0], shape[1] * groups, *shape[2:])
    x = np.random.default_rng(2).standard_normal(shape)
    attrs = GroupNormalizationAttributes(groups, epsilon=0.25)
    (found,) = LAYERS["GroupNormalization"].reference(attrs, [x, None, None], None)
    for n, g in np.ndindex(shape[0], groups):
        part = slice(g * shape[1] // groups, (g + 1) * shape[1] // groups)
        expected = (x[n, part] - x[n, part].mean()) / np.sqrt(x[n, part].var() + 0.25)
        np.testing.assert_allclose(found[n, part], expected, rtol=1e-9, atol=1e-12)
    assert LAYERS["GroupNormalization"].infer(attrs, infos([x]))[0].shape == found.shape


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("operator", list(LAYERS))
def test_narrow_floats_are_summed_in_float32(operator: str, dtype: str, no_graphs: Run) -> None:
    layer = LAYERS[operator]
    case = next(iter(layer.cases()))
    narrow = [a.astype(TensorType((), dtype).numpy) for a in values(layer, case)]
    narrow[0] = (narrow[0] * 300).astype(narrow[0].dtype)  # the squares overflow float16
    (found,) = layer.reference(case.attrs, narrow, no_graphs)
    (expected,) = layer.reference(case.attrs, [a.astype(np.float64) for a in narrow], no_graphs)
    assert found.dtype.name == dtype
    rounding = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=rounding, atol=1e-4)


def test_statistics_of_narrow_floats_are_float32(no_graphs: Run) -> None:
    attrs = LayerNormalizationAttributes(statistics=True)
    x = np.ones((2, 3), np.float16)
    results = LAYERS["LayerNormalization"].reference(attrs, [x, None, None], no_graphs)
    assert [r.dtype.name for r in results] == ["float16", "float32", "float32"]
    assert [i.dtype for i in LAYERS["LayerNormalization"].infer(attrs, infos([x]))] == ["float16", "float32", "float32"]


@pytest.mark.parametrize("operator", list(LAYERS))
def test_inputs_are_left_alone(operator: str, no_graphs: Run) -> None:
    for case in LAYERS[operator].cases():
        arrays = values(LAYERS[operator], case)
        copies = [None if a is None else a.copy() for a in arrays]
        for found in LAYERS[operator].reference(case.attrs, arrays, no_graphs):
            assert not any(a is not None and np.shares_memory(found, a) for a in arrays)
        assert all(a is None or (a == b).all() for a, b in zip(arrays, copies, strict=True))


def test_no_elements_to_normalize_over_gives_no_elements(no_graphs: Run) -> None:
    x = np.ones((2, 0))
    attrs = LayerNormalizationAttributes(statistics=True)
    y, mean, inverse = LAYERS["LayerNormalization"].reference(attrs, [x, None, None], no_graphs)
    assert y.shape == (2, 0)
    assert np.isnan(mean).all()
    assert mean.shape == inverse.shape == (2, 1)


CHANNELS = [info(4)] * 4


@pytest.mark.parametrize(
    ("operator", "attrs", "inputs", "message"),
    [
        ("BatchNormalization", {}, [info(2, 3, 5), *CHANNELS], r"scale is float32\[4\], expected \[3\]: axis 1"),
        ("BatchNormalization", {}, [info(3), *CHANNELS], r"expected at least \[N, C\]"),
        ("BatchNormalization", {}, [info(2, 4), *CHANNELS[:3], info(4, 1)], "variance is"),
        ("BatchNormalization", {}, [info(2, 4), *CHANNELS[:3], info(4, dtype="int32")], "variance is int32"),
        ("BatchNormalization", {"epsilon": -1.0}, [info(2, 4), *CHANNELS], "epsilon is -1.0"),
        ("BatchNormalization", {}, [info(2, symbol("c", 5, 9)), *CHANNELS], r"expected \[c\]"),
        ("LayerNormalization", {"axis": 2}, [info(2, 4)], "axis is 2, expected one of the 2 axes"),
        ("LayerNormalization", {}, [info(2, 4), info(3)], "scale is .* broadcasts to input"),
        ("LayerNormalization", {}, [info(2, 4), None, info(3, 2, 4)], "bias is .* broadcasts to input"),
        ("RMSNormalization", {}, [info(2, 4, dtype="int32")], "input is int32"),
        ("RMSNormalization", {}, [info()], "expected at least one axis"),
        ("InstanceNormalization", {}, [info(2, 4), *CHANNELS[:2]], "one spatial axis"),
        ("GroupNormalization", {"groups": 3}, [info(2, 4)], "groups is 3, expected a divisor of the 4 channels"),
        ("GroupNormalization", {"groups": 0}, [info(2, 4)], "groups is 0"),
        ("LpNormalization", {"p": 3}, [info(2, 4)], "p is 3, expected 1 or 2"),
        ("LpNormalization", {"axis": -3}, [info(2, 4)], "axis is -3"),
    ],
)
def test_refusals_say_what_was_found(operator: str, attrs: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYERS[operator].infer(LAYERS[operator].Attrs(**attrs), inputs)


def test_reductions() -> None:
    n = symbol("n")
    assert LAYERS["LayerNormalization"].reduction(LayerNormalizationAttributes(1), [info(2, n, 3)]) == 3 * n
    assert LAYERS["GroupNormalization"].reduction(GroupNormalizationAttributes(2), [info(1, 4, 5)]) == 10
    assert LAYERS["BatchNormalization"].reduction(BatchNormalizationAttributes(), [info(1, 4, 5)]) == 1
