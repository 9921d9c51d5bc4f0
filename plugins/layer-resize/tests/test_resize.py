"""Resize against onnxruntime in every mode, with symbolic shapes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import TensorInfo, TensorType, symbol
from tenonrt_layer_resize.resize import ResizeAttributes, ResizeLayer

Fixture = Callable[..., Any]
RNG = np.random.default_rng(11)
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
TRANSFORMATIONS = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
]
scales = st.sampled_from([0.3, 0.5, 0.6, 0.7, 1.0, 1.1, 1.5, 2.0, 2.5, 3.0])


def _onnx_attributes(attrs: ResizeAttributes) -> dict[str, Any]:
    given = {
        "mode": attrs.mode,
        "coordinate_transformation_mode": attrs.coordinate_transformation,
        "nearest_mode": attrs.nearest_rounding,
        "cubic_coeff_a": attrs.cubic_coefficient,
        "exclude_outside": int(attrs.exclude_outside),
        "extrapolation_value": attrs.extrapolation,
        "antialias": int(attrs.antialias),
        "keep_aspect_ratio_policy": attrs.keep_aspect,
    }
    return given if attrs.axes is None else {**given, "axes": attrs.axes}


def _compare(oracle: Fixture, agree: Fixture, attrs: ResizeAttributes, arrays: list[Any]) -> None:
    (y,) = agree(ResizeLayer(), attrs, arrays)
    opset = 10 if attrs.coordinate_transformation == "tf_half_pixel_for_nn" else 19
    (expected,) = oracle("Resize", arrays, opset=opset, **_onnx_attributes(attrs))
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)


def _image(data: st.DataObject) -> tuple[Any, list[float]]:
    height, width = data.draw(st.integers(2, 7)), data.draw(st.integers(2, 7))
    factors = [data.draw(scales), data.draw(scales)]
    resized = [int(np.float32(n) * np.float32(f)) for n, f in zip((height, width), factors, strict=True)]
    factors = [f if n else 1.0 for f, n in zip(factors, resized, strict=True)]
    if all(n in {0, old} for n, old in zip(resized, (height, width), strict=True)):
        # onnxruntime copies when no size changes, whatever the scales say; ONNX does not.
        factors = [1.0, 2.0]
    return RNG.standard_normal((1, 2, height, width)).astype("f4"), factors


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_every_mode_and_transformation(
    oracle: Fixture, agree: Fixture, mode: Any, transformation: Any, data: st.DataObject
) -> None:
    image, factors = _image(data)
    attrs = ResizeAttributes(mode, transformation, data.draw(st.sampled_from(ROUNDINGS)), extrapolation=7.0)
    roi = None
    if transformation == "tf_crop_and_resize":
        # onnxruntime ignores the region of axes that keep their size; ONNX does not.
        factors = [
            f if int(np.float32(n) * np.float32(f)) != n else 2.0
            for n, f in zip((image.shape[2:]), factors, strict=True)
        ]
        roi = np.array([0, 0, 0.1, -0.2, 1, 1, 0.8, 1.15], "f4")
    if data.draw(st.booleans()):
        arrays = [image, roi, np.array([1, 1, *factors], "f4")]
    else:
        sizes = [int(n * f) or 1 for n, f in zip(image.shape[2:], factors, strict=True)]
        if roi is not None:
            sizes = [s + (s == n) for s, n in zip(sizes, image.shape[2:], strict=True)]
        arrays = [image, roi, None, np.array([1, 2, *sizes])]
    _compare(oracle, agree, attrs, arrays)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners", "asymmetric"])
@given(st.data())
@settings(max_examples=20, deadline=None)
def test_antialias(oracle: Fixture, agree: Fixture, mode: Any, transformation: Any, data: st.DataObject) -> None:
    image, factors = _image(data)
    # With a filter onnxruntime leaves out each axis that keeps its size, whatever its scale; ONNX does not.
    factors = [1.0 if int(n * f) == n else f for n, f in zip(image.shape[2:], factors, strict=True)]
    exclude = mode == "cubic" and data.draw(st.booleans())
    attrs = ResizeAttributes(mode, transformation, antialias=True, exclude_outside=exclude)
    _compare(oracle, agree, attrs, [image, None, np.array([1, 1, *factors], "f4")])


@given(st.data(), st.sampled_from([-0.5, -0.75, -0.2]))
@settings(max_examples=20, deadline=None)
def test_cubic_coefficient_and_exclude_outside(
    oracle: Fixture, agree: Fixture, data: st.DataObject, coefficient: float
) -> None:
    image, factors = _image(data)
    attrs = ResizeAttributes("cubic", cubic_coefficient=coefficient, exclude_outside=True)
    _compare(oracle, agree, attrs, [image, None, np.array([1, 1, *factors], "f4")])


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("sizes", [(9, 9), (3, 8), (2, 1)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_axes_and_aspect(oracle: Fixture, agree: Fixture, policy: Any, sizes: tuple[int, int], mode: Any) -> None:
    image = RNG.standard_normal((1, 2, 5, 4)).astype("f4")
    attrs = ResizeAttributes(mode, axes=(3, 2), keep_aspect=policy)
    arrays = [image, None, None, np.array(sizes)]
    if policy == "stretch":
        _compare(oracle, agree, attrs, arrays)
    else:  # symbolic axes then have unknown sizes
        infos = [TensorInfo(TensorType(image.shape)), None, None, TensorInfo(TensorType((2,), "int64"))]
        infos[3] = TensorInfo(TensorType((2,), "int64"), value=np.array(sizes, object))
        (expected,) = oracle("Resize", arrays, opset=19, **_onnx_attributes(attrs))
        (y,) = ResizeLayer().reference(attrs, arrays, None)  # type: ignore[arg-type]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
        assert ResizeLayer().infer(attrs, infos)[0].shape == expected.shape


@pytest.mark.parametrize(
    ("shape", "mode"),
    [
        ((6,), "nearest"),
        ((2, 4, 5), "nearest"),
        ((1, 2, 3, 4, 3), "nearest"),
        ((4, 5), "linear"),
        ((1, 2, 3, 4, 3), "linear"),
    ],
)
def test_ranks(oracle: Fixture, agree: Fixture, shape: tuple[int, ...], mode: Any) -> None:
    factors = np.ones(len(shape), "f4")
    factors[-min(len(shape), 3 if len(shape) == 5 else 2) :] = 1.5
    _compare(oracle, agree, ResizeAttributes(mode), [RNG.standard_normal(shape).astype("f4"), None, factors])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_integers(oracle: Fixture, agree: Fixture, dtype: str, mode: Any) -> None:
    image = RNG.integers(0, 100, (1, 1, 4, 4)).astype(dtype)
    attrs = ResizeAttributes(mode, "asymmetric")  # quarters and halves: no rounding hides the truncation
    _compare(oracle, agree, attrs, [image, None, np.array([1, 1, 2, 2], "f4")])


def test_tf_half_pixel_for_nn_takes_the_element_under_the_centre(agree: Fixture) -> None:
    attrs = ResizeAttributes("nearest", "tf_half_pixel_for_nn", "floor")
    (y,) = agree(ResizeLayer(), attrs, [np.arange(6.0), None, np.array([0.5], "f4")])
    assert y.tolist() == [1, 3, 5]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "bool"])
def test_other_element_types(agree: Fixture, dtype: str) -> None:
    data = np.array([0, 1, 1, 0]).astype(TensorType((), dtype).numpy)
    mode: Any = "nearest" if dtype == "bool" else "linear"
    (y,) = agree(ResizeLayer(), ResizeAttributes(mode), [data, None, np.array([2], "f4")])
    expected = [0, 0, 1, 1, 1, 1, 0, 0] if dtype == "bool" else [0, 0.25, 0.75, 1, 1, 0.75, 0.25, 0]
    assert y.astype("f8").tolist() == expected


@given(st.integers(1, 40000), scales)
@settings(max_examples=100, deadline=None)
def test_symbolic_sizes_are_those_of_float32(size: int, scale: float) -> None:
    def resized(dimension: Any) -> Any:
        factors = TensorInfo(TensorType((1,)), value=np.array([float(np.float32(scale))], object))
        return ResizeLayer().infer(ResizeAttributes(), [TensorInfo(TensorType((dimension,))), None, factors])[0]

    concrete = resized(size).shape[0]
    assert resized(symbol("n")).type.concrete({"n": size}) == (concrete,)


def test_a_scale_that_no_fraction_gives_has_unknown_sizes() -> None:
    """In float32, 45 * 2.6 is below 117 and 5 * 2.6 is 13."""
    factors = TensorInfo(TensorType((1,)), value=np.array([float(np.float32(2.6))], object))
    (y,) = ResizeLayer().infer(ResizeAttributes(), [TensorInfo(TensorType((symbol("n"),))), None, factors])
    assert str(y.shape[0]) == "?"


def test_sizes_may_be_symbolic_or_unknown() -> None:
    n = symbol("n", 1)
    data, sizes = TensorInfo(TensorType((3, n))), TensorInfo(TensorType((2,), "int64"))
    given = sizes.with_value(np.array([n * 2, 5], object))
    assert ResizeLayer().infer(ResizeAttributes(), [data, None, None, given])[0].shape == (n * 2, 5)
    assert [str(d) for d in ResizeLayer().infer(ResizeAttributes(), [data, None, None, sizes])[0].shape] == ["?", "?"]


def test_refusals_name_what_was_found() -> None:
    data, factors = TensorInfo(TensorType((3, 4))), TensorInfo(TensorType((3,)))
    with pytest.raises(ValueError, match=r"scales is float32\[3\], expected 2 values"):
        ResizeLayer().infer(ResizeAttributes(), [data, None, factors])
    with pytest.raises(ValueError, match="found none"):
        ResizeLayer().infer(ResizeAttributes(), [data])
    with pytest.raises(ValueError, match="found both"):
        ResizeLayer().infer(ResizeAttributes(), [data, None, factors, factors])
    with pytest.raises(ValueError, match=r"axes are \[0, 2\]"):
        ResizeLayer().infer(ResizeAttributes(axes=(0, 2)), [data, None, factors])
    crop = ResizeAttributes(coordinate_transformation="tf_crop_and_resize")
    with pytest.raises(ValueError, match="needs the roi"):
        ResizeLayer().infer(crop, [data, None, TensorInfo(TensorType((2,)))])


def _type(example: Any) -> TensorType | None:
    if example is None or isinstance(example, TensorType):
        return example
    return TensorType(example.shape, example.dtype.name)


def test_cases_and_samples_are_valid(agree: Fixture) -> None:
    for case in ResizeLayer().cases():
        drawn = ResizeLayer().sample(case.attrs, [_type(i) for i in case.inputs], RNG)
        if case.attrs.keep_aspect == "stretch":
            agree(ResizeLayer(), case.attrs, [drawn[0], *case.inputs[1:]])
            agree(ResizeLayer(), case.attrs, drawn)
