"""Operators on quantized tensors against onnxruntime: at most one step off, for it multiplies by one float32 factor."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt import PluginSet, Registry
from tenonrt.graph.passes import run_passes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402 - needs onnx

Array = np.ndarray[Any, Any]
REGISTRY = Registry(
    PluginSet(deny=("tenonrt-kernel-llvm", "tenonrt-kernel-numpy:cpu/[CF]*", "tenonrt-layer-onnx-reference"))
)
MICROSOFT = "com.microsoft"
several = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow], deadline=None)
sizes, seeds, dtypes = st.integers(1, 5), st.integers(0, 2**31 - 1), st.sampled_from(["uint8", "int8"])


class Case:
    """One node: activations are inputs of the model, everything else is a constant."""

    def __init__(self, kind: str, seed: int, dtype: str, domain: str = MICROSOFT) -> None:
        self.kind, self.dtype, self.domain = kind, dtype, domain
        self.rng = np.random.default_rng(seed)
        self.names: list[str] = []
        self.feed: dict[str, Array] = {}
        self.constants: dict[str, Array] = {}

    def bytes(self, *shape: int, dtype: str = "") -> Array:
        limits = np.iinfo(dtype or self.dtype)
        return self.rng.integers(limits.min, limits.max, shape, endpoint=True).astype(limits.dtype)

    def given(self, array: Array) -> Case:
        self.feed[self._name()] = array
        return self

    def constant(self, array: Array) -> Case:
        self.constants[self._name()] = array
        return self

    def absent(self) -> Case:
        self.names.append("")
        return self

    def tensor(self, *shape: int, zero: bool = True) -> Case:
        """An activation with scale and zero point."""
        return self.given(self.bytes(*shape)).grid(0.02, zero)

    def weights(self, *shape: int, channels: int = 0) -> Case:
        """Symmetric int8, a scale for all or one for each channel."""
        self.constant(self.bytes(*shape, dtype="int8"))
        count = (channels,) if channels else ()
        return self.constant(self.rng.uniform(0.01, 0.03, count).astype(np.float32)).constant(np.zeros(count, np.int8))

    def grid(self, scale: float, zero: bool = True) -> Case:
        """A scale and a zero point, drawn near the middle of the range."""
        self.constant(np.float32(scale * self.rng.uniform(0.5, 1.5)))
        middle = 128 if self.dtype == "uint8" else 0
        offset = np.array(middle + self.rng.integers(-20, 20), self.dtype)
        return self.constant(offset) if zero else self.absent()

    def _name(self) -> str:
        self.names.append(f"x{len(self.names)}")
        return self.names[-1]

    def model(self, **attrs: Any) -> Any:
        names = self.names
        while not names[-1]:
            names = names[:-1]
        graph = helper.make_graph(
            [helper.make_node(self.kind, names, ["y"], "node", domain=self.domain, **attrs)],
            "graph",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                for n, a in self.feed.items()
            ],
            [onnx.ValueInfoProto(name="y")],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def compare(self, share: float = 0.1, **attrs: Any) -> None:
        """Run it in both. share: of the values that may be a step off, for they are near ties."""
        model = self.model(**attrs)
        network = parsed(model)
        found = tenonrt.compile(network, optimization_level=0).create_context().execute(self.feed)["y"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, self.feed)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        if expected.dtype == np.float32:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * float(np.abs(expected).max(initial=1)))
            return
        off = np.abs(found.astype(int) - expected.astype(int))
        assert off.max(initial=0) <= 1
        assert (off > 0).mean() <= share or (off > 0).sum() <= 1


def parsed(model: Any) -> tenonrt.Network:
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        return tenonrt.parse(path, registry=REGISTRY)


@several
@given(
    channels=sizes, outputs=sizes, side=st.integers(3, 6), groups=st.integers(1, 2), stride=st.integers(1, 2),
    padding=st.integers(0, 1), bias=st.booleans(), per_channel=st.booleans(), seed=seeds, dtype=dtypes,
)  # fmt: skip
def test_convolution(
    channels: int, outputs: int, side: int, groups: int, stride: int, padding: int, bias: bool, per_channel: bool,
    seed: int, dtype: str,
) -> None:  # fmt: skip
    outputs *= groups
    case = Case("QLinearConv", seed, dtype, "").tensor(2, channels * groups, side, side)
    case.weights(outputs, channels, 3, 3, channels=outputs if per_channel else 0).grid(0.3)
    if bias:
        case.constant(case.rng.integers(-9999, 9999, outputs).astype(np.int32))
    case.compare(group=groups, strides=[stride] * 2, pads=[padding] * 4)


@several
@given(rows=sizes, inner=sizes, columns=sizes, per_column=st.booleans(), batch=st.booleans(), seed=seeds, dtype=dtypes)
def test_product(rows: int, inner: int, columns: int, per_column: bool, batch: bool, seed: int, dtype: str) -> None:
    shape = (2, rows, inner) if batch else (rows, inner)
    case = Case("QLinearMatMul", seed, dtype, "").tensor(*shape)
    case.weights(inner, columns, channels=columns if per_column else 0).grid(0.1).compare()


@several
@given(
    rows=sizes, inner=sizes, columns=sizes, bias=st.sampled_from([None, "vector", "matrix"]),
    alpha=st.sampled_from([1.0, 0.25]), real=st.booleans(), transposed=st.tuples(st.booleans(), st.booleans()),
    seed=seeds, dtype=dtypes,
)  # fmt: skip
def test_gemm(
    rows: int, inner: int, columns: int, bias: str | None, alpha: float, real: bool, transposed: tuple[bool, bool],
    seed: int, dtype: str,
) -> None:  # fmt: skip
    case = Case("QGemm", seed, dtype).tensor(*((inner, rows) if transposed[0] else (rows, inner)))
    case.weights(*((columns, inner) if transposed[1] else (inner, columns)), channels=columns)
    shape = {"vector": (columns,), "matrix": (rows, columns), None: ()}[bias]
    if bias is None:
        case.absent()
    else:
        case.constant(case.rng.integers(-999, 999, shape).astype(np.int32))
    if not real:
        case.grid(0.1)
    case.compare(alpha=alpha, transA=int(transposed[0]), transB=int(transposed[1]))


@several
@given(rows=sizes, inner=sizes, columns=sizes, zeros=st.booleans(), bias=st.booleans(), seed=seeds, dtype=dtypes)
def test_product_of_integers_to_real_numbers(
    rows: int, inner: int, columns: int, zeros: bool, bias: bool, seed: int, dtype: str
) -> None:
    case = Case("MatMulIntegerToFloat", seed, dtype).given(case_bytes := Case("", seed, dtype).bytes(rows, inner))
    assert case_bytes.dtype == dtype
    case.constant(case.bytes(inner, columns, dtype="int8")).constant(np.float32(0.02))
    case.constant(case.rng.uniform(0.01, 0.03, columns).astype(np.float32))
    for value in (np.array(3, dtype), np.zeros(columns, np.int8)):
        case = case.constant(value) if zeros else case.absent()
    if bias:
        case.constant(case.rng.standard_normal(columns).astype(np.float32))
    case.compare()


@several
@given(
    kind=st.sampled_from(["QLinearAdd", "QLinearMul"]), shape=st.tuples(sizes, sizes, sizes), broadcasts=st.booleans(),
    seed=seeds, dtype=dtypes,
)  # fmt: skip
def test_two_operands(kind: str, shape: tuple[int, ...], broadcasts: bool, seed: int, dtype: str) -> None:
    other = (1, shape[1], 1) if broadcasts else shape
    Case(kind, seed, dtype).tensor(*shape).tensor(*other).grid(0.05).compare()


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_zero_points_that_are_left_out_are_zero(dtype: str) -> None:
    """onnxruntime refuses such models, though its operator allows them."""
    case = Case("QLinearAdd", 3, dtype).tensor(2, 7, zero=False).tensor(2, 7, zero=False).grid(0.05, zero=False)
    a, b = (array.astype(np.float64) for array in case.feed.values())
    scales = [float(scale) for scale in case.constants.values()]
    steps = np.rint((a * scales[0] + b * scales[1]) / scales[2])
    limits = np.iinfo(dtype)
    found = tenonrt.compile(parsed(case.model()), optimization_level=0).create_context().execute(case.feed)["y"]
    assert found.dtype == dtype
    assert np.array_equal(found, np.clip(steps, limits.min, limits.max))


@several
@given(
    kind=st.sampled_from(["QLinearLeakyRelu", "QLinearSigmoid"]), shape=st.tuples(sizes, sizes), seed=seeds,
    dtype=dtypes,
)  # fmt: skip
def test_functions(kind: str, shape: tuple[int, ...], seed: int, dtype: str) -> None:
    """With zero points: without them onnxruntime aborts."""
    attrs = {"alpha": 0.2} if kind == "QLinearLeakyRelu" else {}
    Case(kind, seed, dtype).tensor(*shape).grid(0.02).compare(**attrs)


@several
@given(shape=st.tuples(sizes, sizes, sizes), axis=st.integers(-2, 2), opset=st.sampled_from([12, 13]), seed=seeds,
       dtype=dtypes)  # fmt: skip
def test_softmax(shape: tuple[int, ...], axis: int, opset: int, seed: int, dtype: str) -> None:
    """onnxruntime looks exponentials up in a table of integers and does not round to the nearest."""
    Case("QLinearSoftmax", seed, dtype).tensor(*shape).grid(0.005).compare(share=1.0, axis=axis, opset=opset)


@several
@given(
    batch=st.integers(1, 2), channels=sizes, image=st.tuples(st.integers(2, 6), st.integers(2, 6)), last=st.booleans(),
    whole=st.booleans(), padding=st.integers(0, 1), counted=st.booleans(), ceil=st.booleans(), seed=seeds, dtype=dtypes,
)  # fmt: skip
def test_averages(
    batch: int, channels: int, image: tuple[int, int], last: bool, whole: bool, padding: int, counted: bool, ceil: bool,
    seed: int, dtype: str,
) -> None:  # fmt: skip
    attrs: dict[str, Any] = {"channels_last": int(last)}
    shape = (batch, *image, channels) if last else (batch, channels, *image)
    if not whole:
        attrs |= {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [padding] * 4, "count_include_pad": int(counted)}
        # With padding onnxruntime has windows that onnx has not; with what is counted, it divides by what lies beyond.
        attrs["ceil_mode"] = int(ceil and not padding and not counted)
    kind = "QLinearGlobalAveragePool" if whole else "QLinearAveragePool"
    Case(kind, seed, dtype).tensor(*shape).grid(0.02).compare(**attrs)


def test_mean() -> None:
    """onnxruntime documents the operator and does not have it."""
    case = Case("QLinearReduceMean", 4, "uint8").tensor(2, 3, 5).grid(0.01)
    scale, zero, result, offset = (float(array) for array in case.constants.values())
    real = ((case.feed["x0"] - zero) * scale).mean(axis=(1, 2), keepdims=True)
    network = parsed(case.model(axes=[1, -1], keepdims=1))
    found = tenonrt.compile(network, optimization_level=0).create_context().execute(case.feed)["y"]
    assert np.array_equal(found, np.clip(np.rint(real / result) + offset, 0, 255))


@several
@given(count=st.integers(1, 3), shape=st.tuples(sizes, sizes, sizes), axis=st.integers(-3, 2), seed=seeds, dtype=dtypes)
def test_concatenation(count: int, shape: tuple[int, ...], axis: int, seed: int, dtype: str) -> None:
    case = Case("QLinearConcat", seed, dtype).grid(0.02)
    for _ in range(count):
        case.tensor(*shape)
    case.compare(axis=axis)


@several
@given(shape=st.tuples(sizes, sizes), seed=seeds, dtype=dtypes)
def test_where(shape: tuple[int, ...], seed: int, dtype: str) -> None:
    case = Case("QLinearWhere", seed, dtype)
    case.given(case.rng.random(shape) < 0.5).tensor(*shape).tensor(*shape).grid(0.02).compare()


@pytest.mark.parametrize("kind", ["QuantizeLinear", "DequantizeLinear"])
def test_quantizing_in_the_other_domain(kind: str) -> None:
    case = Case(kind, 0, "int8")
    case.given(case.rng.standard_normal((3, 4)).astype(np.float32) if kind[0] == "Q" else case.bytes(3, 4))
    case.constant(np.full(4, 0.03, np.float32)).constant(np.arange(4, dtype=np.int8)).compare(axis=1)


def test_channels_last() -> None:
    case = Case("QLinearConv", 5, "uint8").tensor(1, 5, 6, 4)
    case.weights(3, 4, 3, 3, channels=3).grid(0.3).compare(channels_last=1)


def test_a_zero_point_for_all_channels_of_several_scales() -> None:
    case = Case("QLinearConv", 6, "uint8", "").tensor(1, 4, 5, 5).constant(np.ones((3, 4, 1, 1), np.int8))
    case.constant(np.full(3, 0.01, np.float32)).constant(np.array(0, np.int8)).grid(0.1)
    network = parsed(case.model())
    assert [layer.kind for layer in network.layers][-2:] == ["Convolution", "Quantize"]


def test_several_scales_of_rows_are_computed_exactly() -> None:
    case = Case("QLinearMatMul", 7, "uint8", "").given(np.full((2, 3, 4), 7, np.uint8))
    case.constant(np.full((2, 3, 1), 0.5, np.float32)).constant(np.full((2, 3, 1), 1, np.uint8))
    case.constant(np.full((4, 2), 3, np.int8)).constant(np.float32(1)).constant(np.array(1, np.int8))
    case.constant(np.float32(2)).constant(np.array(2, np.uint8))
    context = tenonrt.compile(parsed(case.model()), optimization_level=0).create_context()
    assert np.array_equal(context.execute(case.feed)["y"], np.full((2, 3, 2), 14))


def test_the_form_is_that_of_models_with_explicit_quantization() -> None:
    case = Case("QLinearConv", 8, "uint8", "").tensor(1, 4, 5, 5).weights(3, 4, 1, 1, channels=3).grid(0.1)
    case.constant(np.ones(3, np.int32))
    network = parsed(case.model())
    run_passes(network.graph, network.registry)
    assert Counter(layer.kind for layer in network.layers) == Counter(Dequantize=3, Convolution=1, Quantize=1)


def test_inputs_of_a_concatenation_come_in_threes() -> None:
    model = Case("QLinearConcat", 0, "uint8").grid(0.1).tensor(1, 2).model(axis=0)
    model.graph.node[0].input.pop()
    with pytest.raises(tenonrt.TenonError, match=r"has 4 inputs.*three for each tensor"):
        parsed(model)
