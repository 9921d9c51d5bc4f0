"""Quantize and Dequantize against onnxruntime, and the rounding rules one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from tenonrt.contracts import Array, TensorInfo, TensorType, symbol
from tenonrt_layer_quantization.dequantize import DequantizeAttributes, DequantizeLayer
from tenonrt_layer_quantization.granularity import parameter_shape
from tenonrt_layer_quantization.quantize import QuantizeAttributes, QuantizeLayer
from tenonrt_layer_quantization.saturate import SaturateAttributes, SaturateLayer

Fixture = Callable[..., Any]
RNG = np.random.default_rng(10)
INTEGERS = ["int8", "uint8", "int16", "uint16", "int4", "uint4"]
FLOATS = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"]
granularities = st.sampled_from(["tensor", "axis", "block"])


@pytest.fixture(scope="session")
def linear() -> Callable[..., Array]:
    """onnxruntime's QuantizeLinear or DequantizeLinear. Types NumPy lacks are cast inside the model."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(operator: str, arrays: Sequence[Array], dtype: str, **attributes: Any) -> Array:
        helper = onnx.helper
        constants = [_tensor(onnx, f"x{i}", a) for i, a in enumerate(arrays)]
        names = [f"x{i}" for i in range(len(arrays))]
        if len(arrays) < 3 and operator == "QuantizeLinear":
            attributes["output_dtype"] = helper.np_dtype_to_tensor_dtype(TensorType((), dtype).numpy)
        nodes = [
            helper.make_node(operator, names, ["q"], **attributes),
            helper.make_node("Cast", ["q"], ["y"], to=onnx.TensorProto.FLOAT),
        ]
        result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph(nodes, "g", [], [result], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return np.asarray(session.run(None, {})[0])

    return run


def _tensor(onnx: Any, name: str, array: Array) -> Any:
    return onnx.numpy_helper.from_array(array, name)


def _parameters(shape: list[int], granularity: str, data: st.DataObject) -> tuple[int, int, tuple[int, ...]]:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    block = data.draw(st.integers(1, shape[axis])) if granularity == "block" else 0
    return axis, block, parameter_shape(tuple(shape), granularity, axis, max(block, 1))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), granularities, st.data())
@settings(max_examples=80, deadline=None)
def test_quantize(linear: Fixture, agrees: Fixture, shape: list[int], granularity: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(INTEGERS + FLOATS))
    axis, block, parameter = _parameters(shape, granularity, data)
    attrs = QuantizeAttributes(dtype, axis, block)
    kind = attrs_kind(dtype)
    arrays = [
        (RNG.standard_normal(shape) * 100).astype("f4"),
        RNG.uniform(0.1, 3, parameter).astype("f4"),
        (RNG.integers(0, 8, parameter) * (dtype in INTEGERS)).astype(kind),
    ]
    if data.draw(st.booleans()):
        arrays.pop()
    (y,) = agrees(QuantizeLayer(), attrs, arrays)
    expected = linear("QuantizeLinear", arrays, dtype, axis=axis, block_size=_block(block, parameter), saturate=1)
    np.testing.assert_array_equal(y.astype("f4"), expected)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), granularities, st.data())
@settings(max_examples=80, deadline=None)
def test_dequantize(linear: Fixture, agrees: Fixture, shape: list[int], granularity: str, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([*INTEGERS, *FLOATS, "int32"]))
    axis, block, parameter = _parameters(shape, granularity, data)
    attrs = DequantizeAttributes("float32", axis, block)
    kind = attrs_kind(dtype)
    arrays = [
        RNG.integers(0, 8, shape).astype(kind),
        RNG.uniform(0.1, 3, parameter).astype("f4"),
        (RNG.integers(0, 8, parameter) * (dtype in INTEGERS)).astype(kind),
    ]
    if dtype == "int32" or data.draw(st.booleans()):
        arrays.pop()
    (y,) = agrees(DequantizeLayer(), attrs, arrays)
    expected = linear("DequantizeLinear", arrays, dtype, axis=axis, block_size=_block(block, parameter))
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def _block(block: int, parameter: tuple[int, ...]) -> int:
    return 0 if parameter == (1,) else block  # onnxruntime takes one element for a per-tensor scale


def attrs_kind(dtype: str) -> np.dtype[Any]:
    return TensorType((), dtype).numpy


def _quantize(values: list[float], dtype: str, zero_point: int | None = None, **attributes: Any) -> list[float]:
    arrays = [np.array(values, "f4"), np.array(1, "f4")]
    if zero_point is not None:
        arrays.append(np.array(zero_point).astype(attrs_kind(dtype)))
    run: Any = None
    (y,) = QuantizeLayer().reference(QuantizeAttributes(dtype, **attributes), arrays, run)
    return [float(v) for v in y]


@pytest.mark.parametrize("zero_point", [None, 1])
def test_half_rounds_to_even_before_the_zero_point_is_added(zero_point: int | None) -> None:
    shift = zero_point or 0
    expected = [n + shift for n in (-2, -2, 0, 0, 2, 2)]
    assert _quantize([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], "int8", zero_point) == expected


@pytest.mark.parametrize("dtype", [*INTEGERS, "int2", "uint2"])
def test_integers_saturate(dtype: str) -> None:
    info = ml_dtypes.iinfo(attrs_kind(dtype))
    assert _quantize([1e30, -1e30, np.inf, -np.inf], dtype) == [info.max, info.min, info.max, info.min]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("saturate", [True, False])
def test_float8_overflow_follows_saturate(linear: Fixture, dtype: str, saturate: bool) -> None:
    values = [1e6, -1e6, np.inf, -np.inf, np.nan, 0.3]
    expected = linear("QuantizeLinear", [np.array(values, "f4"), np.array(1, "f4")], dtype, saturate=int(saturate))
    np.testing.assert_array_equal(_quantize(values, dtype, saturate=saturate), expected)


def test_float4_saturates() -> None:
    assert _quantize([100.0, -100.0, 1.4, 0.2], "float4_e2m1fn", saturate=False) == [6, -6, 1.5, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_in_and_out(agrees: Fixture, dtype: str) -> None:
    kind = attrs_kind(dtype)
    arrays = [np.array([1.0, 2.5, -300]).astype(kind), np.array(0.5).astype(kind)]
    (q,) = agrees(QuantizeLayer(), QuantizeAttributes(), arrays)
    assert q.tolist() == [2, 5, -128]
    (x,) = agrees(DequantizeLayer(), DequantizeAttributes(dtype), [q, arrays[1]])
    assert x.astype("f4").tolist() == [1, 2.5, -64]


@pytest.mark.parametrize("dtype", ["int8", "uint4", "float8_e5m2"])
def test_scalars_stay_arrays(agrees: Fixture, dtype: str) -> None:
    (q,) = agrees(QuantizeLayer(), QuantizeAttributes(dtype), [np.array(3, "f4"), np.array(0.5, "f4")])
    (x,) = agrees(DequantizeLayer(), DequantizeAttributes(), [q, np.array(0.5, "f4")])
    assert x.tolist() == 3


def test_a_float64_scale_gives_the_exact_result(agrees: Fixture) -> None:
    (x,) = agrees(DequantizeLayer(), DequantizeAttributes(), [np.array([3], "i1"), np.array(0.1)])
    assert x.tolist() == [3 * 0.1]


def test_refusals_name_what_was_found() -> None:
    real, scale = TensorInfo(TensorType((symbol("n"), 6))), TensorInfo(TensorType((5,)))
    with pytest.raises(ValueError, match="the scale of axis 1 of the input is 5, expected 6"):
        QuantizeLayer().infer(QuantizeAttributes(), [real, scale])
    with pytest.raises(ValueError, match="axis 1 of the scale, in blocks of 2, is 2, expected 3"):
        QuantizeLayer().infer(QuantizeAttributes(block=2), [real, TensorInfo(TensorType((symbol("n"), 2)))])
    with pytest.raises(ValueError, match="cannot quantize to 'float32'"):
        QuantizeLayer().infer(QuantizeAttributes("float32"), [real, scale])
    zero = TensorInfo(TensorType((), "uint8"))
    with pytest.raises(ValueError, match="zero point is uint8, expected the quantized type int8"):
        QuantizeLayer().infer(QuantizeAttributes(), [real, TensorInfo(TensorType(())), zero])
    with pytest.raises(ValueError, match="input is float32, expected one of"):
        DequantizeLayer().infer(DequantizeAttributes(), [real, scale])


@pytest.mark.parametrize("layer", [QuantizeLayer(), DequantizeLayer()])
def test_cases_and_samples_are_valid(agrees: Fixture, layer: Any) -> None:
    for case in layer.cases():
        agrees(layer, case.attrs, layer.sample(case.attrs, case.inputs, np.random.default_rng(0)))


def test_samples_keep_away_from_ties() -> None:
    run: Any = None
    for case in QuantizeLayer().cases():
        arrays = QuantizeLayer().sample(case.attrs, case.inputs, np.random.default_rng(1))
        exact = [a.astype("f8") if i < 2 else a for i, a in enumerate(arrays)]
        found, right = (QuantizeLayer().reference(case.attrs, a, run)[0] for a in (arrays, exact))
        np.testing.assert_array_equal(found.astype("f8"), right.astype("f8"))


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3), st.sampled_from(INTEGERS), st.booleans(), st.booleans(),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_saturate_is_quantize_and_dequantize_but_for_half_a_step(
    linear: Fixture, agrees: Fixture, shape: list[int], dtype: str, offset: bool, vector: bool, seed: int
) -> None:
    parameter, rng = (1,) if vector else (), np.random.default_rng(seed)
    scale = rng.uniform(0.1, 3, parameter).astype("f4")
    reach = float(ml_dtypes.iinfo(attrs_kind(dtype)).max) * float(scale.max())
    zeros = [np.full(parameter, 5).astype(attrs_kind(dtype))] if offset else []
    arrays = [rng.uniform(-2 * reach, 2 * reach, shape).astype("f4"), scale, *zeros]
    (y,) = agrees(SaturateLayer(), SaturateAttributes(dtype), arrays)
    steps = linear("QuantizeLinear", arrays, dtype).astype(attrs_kind(dtype))
    rounded = linear("DequantizeLinear", [steps, *arrays[1:]], dtype)
    # Half a step, and what single precision rounds off: of 16 bits that is a hundredth of it.
    assert np.all(np.abs(y - rounded) <= 0.5001 * scale + np.spacing(np.float32(reach)))
    limits = ml_dtypes.iinfo(attrs_kind(dtype))
    inside = (steps > limits.min) & (steps < limits.max)
    assert np.array_equal(y[inside], arrays[0][inside])  # not rounded


@pytest.mark.parametrize(
    ("dtype", "scale", "zero", "message"),
    [
        ("float8_e5m2", TensorType(()), None, "no range of"),
        ("int8", TensorType((3,)), None, "one real number"),
        ("int8", TensorType(()), TensorType((), "uint8"), "zero point is uint8"),
    ],
)
def test_saturate_refuses(dtype: str, scale: TensorType, zero: TensorType | None, message: str) -> None:
    types = [TensorType((3,)), scale, *([zero] if zero else [])]
    with pytest.raises(ValueError, match=message):
        SaturateLayer().infer(SaturateAttributes(dtype), [TensorInfo(t) for t in types])
