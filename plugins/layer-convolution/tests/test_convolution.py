from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Case, Run, TensorInfo, TensorType, symbol
from tenonrt_layer_convolution import correlate
from tenonrt_layer_convolution.convolution import ConvolutionAttributes, ConvolutionLayer
from tenonrt_layer_convolution.deconvolution import DeconvolutionAttributes, DeconvolutionLayer
from tenonrt_layer_convolution.window import WindowAttributes

LAYERS = {"Conv": ConvolutionLayer(), "ConvTranspose": DeconvolutionLayer()}
CASES = [pytest.param(op, c, id=f"{op}-{c.name}") for op, layer in LAYERS.items() for c in layer.cases()]
ONNX_PADDING = {"same_upper": "SAME_UPPER", "same_lower": "SAME_LOWER", "valid": "VALID"}


def onnx_attributes(attrs: WindowAttributes, window: tuple[int, ...]) -> dict[str, Any]:
    result: dict[str, Any] = {"group": attrs.groups, "kernel_shape": window}
    if attrs.stride:
        result["strides"] = attrs.stride
    if attrs.dilation:
        result["dilations"] = attrs.dilation
    if attrs.padding_mode != "explicit":
        result["auto_pad"] = ONNX_PADDING[attrs.padding_mode]
    elif attrs.pre_padding or attrs.post_padding:
        zeros = (0,) * len(window)
        result["pads"] = (*(attrs.pre_padding or zeros), *(attrs.post_padding or zeros))
    if isinstance(attrs, DeconvolutionAttributes):
        if attrs.output_padding:
            result["output_padding"] = attrs.output_padding
        if attrs.output_shape:
            result["output_shape"] = attrs.output_shape
    return result


def infos(arrays: list[Any]) -> list[TensorInfo | None]:
    return [None if a is None else TensorInfo(TensorType(a.shape, a.dtype.name)) for a in arrays]


def values(case: Case, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [None if t is None else rng.standard_normal(t.shape).astype(t.dtype) for t in case.inputs]


@pytest.mark.parametrize(("operator", "case"), CASES)
def test_agrees_with_onnxruntime(operator: str, case: Case, oracle: Any, no_graphs: Run) -> None:
    if case.name == "gaps":
        pytest.skip("onnxruntime leaves the output shorter than input * stride: see the test of short windows")
    arrays = values(case)
    (expected,) = oracle(operator, arrays, **onnx_attributes(case.attrs, arrays[1].shape[2:]))
    (found,) = LAYERS[operator].reference(case.attrs, arrays, no_graphs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("operator", "case"), CASES)
def test_infer_agrees_with_reference(operator: str, case: Case, no_graphs: Run) -> None:
    layer, arrays = LAYERS[operator], values(case)
    (info,) = layer.infer(case.attrs, infos(arrays))
    (found,) = layer.reference(case.attrs, arrays, no_graphs)
    assert info.shape == found.shape
    assert info.dtype == found.dtype.name


@pytest.mark.parametrize(("operator", "case"), CASES)
def test_symbolic_infer_evaluates_to_the_concrete(operator: str, case: Case) -> None:
    layer, arrays = LAYERS[operator], values(case)
    shape = arrays[0].shape
    symbolic = TensorType(tuple(symbol(f"s{i}", 0 if i == 0 else 1) for i in range(len(shape))))
    (concrete,) = layer.infer(case.attrs, infos(arrays))
    (info,) = layer.infer(case.attrs, [TensorInfo(symbolic), *infos(arrays)[1:]])
    assert info.type.concrete({f"s{i}": d for i, d in enumerate(shape)}) == concrete.shape


def plain_convolution(x: Any, w: Any, attrs: ConvolutionAttributes) -> Any:
    """A transcription of the definition, one output element at a time, in float64."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    pads = [(0, 0), (0, 0), *zip(attrs.pre_padding, attrs.post_padding, strict=True)]
    x = np.pad(x, pads)
    n, _, height, width = x.shape
    k, c, r, s = w.shape
    rows = (height - (r - 1) * attrs.dilation[0] - 1) // attrs.stride[0] + 1
    columns = (width - (s - 1) * attrs.dilation[1] - 1) // attrs.stride[1] + 1
    y = np.zeros((n, k, rows, columns))
    for b, o, i, j in np.ndindex(*y.shape):
        group = o // (k // attrs.groups)
        top, left = i * attrs.stride[0], j * attrs.stride[1]
        window = x[b, group * c : (group + 1) * c, top:, left:]
        window = window[:, : (r - 1) * attrs.dilation[0] + 1 : attrs.dilation[0]]
        window = window[:, :, : (s - 1) * attrs.dilation[1] + 1 : attrs.dilation[1]]
        y[b, o, i, j] = (window * w[o]).sum()
    return y


@st.composite
def convolutions(draw: Any) -> tuple[ConvolutionAttributes, tuple[int, ...], tuple[int, ...]]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    groups, c, k = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    window, stride, dilation, pre, post = pair(1, 3), pair(1, 3), pair(1, 2), pair(0, 2), pair(0, 2)
    least = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    sizes = [max(1, e - a - b) + draw(st.integers(0, 4)) for e, a, b in zip(least, pre, post, strict=True)]
    attrs = ConvolutionAttributes(stride, dilation, pre, post, groups)
    return attrs, (draw(st.integers(1, 2)), c * groups, *sizes), (k * groups, c, *window)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(1, 2000))
def test_random_convolutions_follow_the_definition(
    example: tuple[ConvolutionAttributes, tuple[int, ...], tuple[int, ...]], budget: int
) -> None:
    attrs, source, weights = example
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(source), rng.standard_normal(weights)
    layer, saved = LAYERS["Conv"], correlate.COLUMN_BYTES
    correlate.COLUMN_BYTES = budget  # small pieces, so that every way of cutting is met
    try:
        (found,) = layer.reference(attrs, [x, w, None], None)  # type: ignore[arg-type]
    finally:
        correlate.COLUMN_BYTES = saved
    np.testing.assert_allclose(found, plain_convolution(x, w, attrs), rtol=1e-10, atol=1e-10)
    (info,) = layer.infer(attrs, infos([x, w]))
    assert info.shape == found.shape


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from(["explicit", "same_upper", "same_lower", "valid"]))
def test_random_deconvolutions_are_the_adjoint(
    example: tuple[ConvolutionAttributes, tuple[int, ...], tuple[int, ...]], mode: str
) -> None:
    """<conv(x), y> equals <x, deconv(y)>, with output padding making up for what the stride left over."""
    attrs, source, weights = example
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal(source), rng.standard_normal(weights)
    (y,) = LAYERS["Conv"].reference(attrs, [x, w, None], None)  # type: ignore[arg-type]
    z = rng.standard_normal(y.shape)
    common = (attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.groups)
    touched = [
        (count - 1) * stride + (window - 1) * dilation + 1
        for count, window, stride, dilation in zip(y.shape[2:], w.shape[2:], attrs.stride, attrs.dilation, strict=True)
    ]
    padded = np.add(np.add(attrs.pre_padding, attrs.post_padding), x.shape[2:])
    extra = tuple(int(a) - b for a, b in zip(padded, touched, strict=True))
    transposed = DeconvolutionAttributes(*common, output_padding=extra)
    (back,) = LAYERS["ConvTranspose"].reference(transposed, [z, w, None], None)  # type: ignore[arg-type]
    assert back.shape == x.shape
    np.testing.assert_allclose((y * z).sum(), (x * back).sum(), rtol=1e-9, atol=1e-9)
    other = DeconvolutionAttributes(*common, padding_mode=mode, output_padding=extra)  # type: ignore[arg-type]
    (result,) = LAYERS["ConvTranspose"].reference(other, [z, w, None], None)  # type: ignore[arg-type]
    assert LAYERS["ConvTranspose"].infer(other, infos([z, w]))[0].shape == result.shape


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["upper", "lower"]))
def test_same_padding_gives_the_size_divided_by_the_stride(
    size: int, window: int, stride: int, dilation: int, end: str
) -> None:
    attrs = ConvolutionAttributes((stride,), (dilation,), padding_mode=f"same_{end}")  # type: ignore[arg-type]
    arrays = [np.ones((1, 1, size)), np.ones((1, 1, window)), None]
    (found,) = LAYERS["Conv"].reference(attrs, arrays, None)  # type: ignore[arg-type]
    assert found.shape[2] == -(-size // stride) == LAYERS["Conv"].infer(attrs, infos(arrays))[0].shape[2]


@pytest.mark.parametrize(("window", "expected"), [(1, [1, 0, 0, 2, 0, 0, 3, 0, 0]), (2, [1, 1, 0, 2, 2, 0, 3, 3, 0])])
@pytest.mark.parametrize("mode", ["same_upper", "same_lower"])
def test_same_deconvolution_with_short_windows(window: int, expected: list[int], mode: Any, no_graphs: Run) -> None:
    """ONNX ConvTranspose: the output is input * stride; windows shorter than the stride leave zeros at the end."""
    attrs = DeconvolutionAttributes((3,), padding_mode=mode)
    arrays = [np.array([[[1.0, 2.0, 3.0]]]), np.ones((1, 1, window)), None]
    (found,) = LAYERS["ConvTranspose"].reference(attrs, arrays, no_graphs)
    np.testing.assert_array_equal(found, [[expected]])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("operator", list(LAYERS))
def test_narrow_floats_are_summed_in_float32(operator: str, dtype: str, no_graphs: Run) -> None:
    case = next(iter(LAYERS[operator].cases()))
    narrow = [a.astype(TensorType((), dtype).numpy) for a in values(case)]
    (found,) = LAYERS[operator].reference(case.attrs, narrow, no_graphs)
    (expected,) = LAYERS[operator].reference(case.attrs, [a.astype(np.float64) for a in narrow], no_graphs)
    assert found.dtype.name == dtype
    rounding = 2.0**-10 if dtype == "float16" else 2.0**-7
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=rounding, atol=1e-4)


def test_integers_are_exact(no_graphs: Run) -> None:
    x, w = np.arange(-25, 25, dtype=np.int32).reshape(1, 2, 5, 5), np.arange(36, dtype=np.int32).reshape(2, 2, 3, 3)
    attrs = ConvolutionAttributes((1, 1), (1, 1), (1, 1), (1, 1))
    (found,) = LAYERS["Conv"].reference(attrs, [x, w, None], no_graphs)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, plain_convolution(x, w, attrs))


def test_a_large_image_stays_within_the_budget(no_graphs: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    matmul = np.matmul

    def measured(a: Any, b: Any) -> Any:
        seen.append(b.nbytes)
        return matmul(a, b)

    monkeypatch.setattr(np, "matmul", measured)
    x, w = np.ones((1, 3, 640, 640), np.float32), np.ones((4, 3, 6, 6), np.float32)
    attrs = ConvolutionAttributes((2, 2), (), (2, 2), (2, 2))
    (found,) = LAYERS["Conv"].reference(attrs, [x, w, None], no_graphs)
    assert found.shape == (1, 4, 320, 320)
    assert found[0, 0, 100, 100] == 108
    assert max(seen) <= correlate.COLUMN_BYTES < sum(seen)


def test_inputs_are_left_alone(no_graphs: Run) -> None:
    for operator, layer in LAYERS.items():
        case = next(iter(layer.cases()))
        arrays = values(case)
        copies = [a.copy() for a in arrays]
        for a in arrays:
            a.flags.writeable = False
        layer.reference(case.attrs, arrays, no_graphs)
        assert all((a == b).all() for a, b in zip(arrays, copies, strict=True)), operator


def info(*shape: Any, dtype: str = "float32") -> TensorInfo:
    return TensorInfo(TensorType(shape, dtype))


IMAGE, WEIGHTS = info(1, 4, 8, 8), info(6, 4, 3, 3)


@pytest.mark.parametrize(
    ("attrs", "inputs", "message"),
    [
        ({}, [info(1, 3, 8, 8), WEIGHTS], "has 3 channels, expected 4"),
        ({"groups": 4}, [IMAGE, info(6, 1, 3, 3)], "output channels are 6, expected a multiple of groups=4"),
        ({"groups": 0}, [IMAGE, WEIGHTS], "groups is 0"),
        ({}, [IMAGE, info(6, 4, 9, 3)], "spanning 9 does not fit into a padded size of 8"),
        ({"stride": (1,)}, [IMAGE, WEIGHTS], r"stride is \(1,\), expected one value for each of the 2"),
        ({"dilation": (0, 1)}, [IMAGE, WEIGHTS], r"dilation is \(0, 1\), expected values of at least 1"),
        ({"pre_padding": (-1, 0)}, [IMAGE, WEIGHTS], "pre_padding is"),
        ({"padding_mode": "same"}, [IMAGE, WEIGHTS], "padding_mode is 'same'"),
        ({}, [info(4, 8), info(6, 8)], "expected .N, C. and 1 to 3 spatial axes"),
        ({}, [IMAGE, info(6, 4, 3)], "expected 4 axes"),
        ({}, [IMAGE, info(6, 4, 3, 3, dtype="float16")], "expected the input's element type float32"),
        ({}, [info(1, 4, 8, 8, dtype="bool"), WEIGHTS], "input is bool"),
        ({}, [IMAGE, WEIGHTS, info(5)], r"bias is float32\[5\], expected shape \[6\]"),
        ({}, [IMAGE, WEIGHTS, info(1, 6)], "bias is"),
        ({}, [IMAGE, info(6, 4, 3, symbol("r"))], "spatial sizes that are known"),
        ({}, [info(1, symbol("c", 8, 9), 8, 8), WEIGHTS], "has c channels, expected 4"),
    ],
)
def test_refusals_say_what_was_found(attrs: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYERS["Conv"].infer(ConvolutionAttributes(**attrs), inputs)


@pytest.mark.parametrize(
    ("attrs", "inputs", "message"),
    [
        ({}, [IMAGE, WEIGHTS], "has 4 channels, expected 6"),
        ({"groups": 3}, [IMAGE, info(4, 1, 3, 3)], "input channels are 4, expected a multiple of groups=3"),
        ({"pre_padding": (9, 9)}, [info(1, 4, 2, 2), info(4, 1, 3, 3)], "exceeds the full size 4"),
        ({"groups": 2}, [IMAGE, info(4, 3, 3, 3), info(3)], r"expected shape \[6\]"),
        ({"output_shape": (3,)}, [IMAGE, info(4, 3, 3, 3)], "output_shape is"),
    ],
)
def test_deconvolution_refusals(attrs: Any, inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LAYERS["ConvTranspose"].infer(DeconvolutionAttributes(**attrs), inputs)


def test_flops_and_reduction() -> None:
    layer, attrs = LAYERS["Conv"], ConvolutionAttributes(groups=2)
    inputs = [IMAGE, info(6, 2, 3, 3)]
    outputs = layer.infer(attrs, inputs)
    assert layer.reduction(attrs, inputs) == 18
    assert layer.flops(attrs, inputs, outputs) == 2 * 6 * 36 * 18
    transposed = DeconvolutionAttributes((2, 2), groups=2)
    inputs = [info(1, 6, 5, 5), info(6, 2, 3, 3)]
    assert LAYERS["ConvTranspose"].reduction(transposed, inputs) == 3 * 4
    assert LAYERS["ConvTranspose"].flops(transposed, inputs, ()) == 2 * 150 * 18
