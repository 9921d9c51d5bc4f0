"""Networks with Quantize and Dequantize layers of float8_e4m3fn around every product, as onnxruntime computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import numpy_dtype
from tenonrt.graph.passes import run_passes

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

FLOAT8 = "float8_e4m3fn"
Array = np.ndarray[Any, Any]


class Writer:
    """A model whose products read what is quantized, by one scale for a tensor and one for each channel of weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.made: dict[str, str] = {}
        self.rng = np.random.default_rng(0)

    def constant(self, values: Array, kind: int | None = None) -> str:
        name = f"c{len(self.constants)}"
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype) if kind is None else kind
        raw = values.tobytes()
        self.constants.append(onnx.helper.make_tensor(name, kind, values.shape, raw, raw=True))
        return name

    def add(self, kind: str, *inputs: str, **attrs: Any) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attrs))
        return name

    def quantized(self, x: str, scale: float) -> str:
        """As tools write it: once for a tensor, and the type is that of the zero point."""
        if x in self.made:
            return self.made[x]
        zero = self.constant(np.zeros((), numpy_dtype(FLOAT8)), onnx.TensorProto.FLOAT8E4M3FN)
        step = self.constant(np.array(scale, np.float32))
        self.made[x] = self.add("DequantizeLinear", self.add("QuantizeLinear", x, step, zero), step, zero)
        return self.made[x]

    def weights(self, shape: tuple[int, ...], axis: int) -> str:
        values = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape) / shape[axis])
        others = tuple(i for i in range(len(shape)) if i != axis)
        scale = (np.abs(values).max(axis=others) / 448).astype(np.float32)
        spread = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
        stored = (values / spread).astype(numpy_dtype(FLOAT8))
        zero = self.constant(np.zeros(scale.shape, numpy_dtype(FLOAT8)), onnx.TensorProto.FLOAT8E4M3FN)
        named = self.constant(stored, onnx.TensorProto.FLOAT8E4M3FN)
        return self.add("DequantizeLinear", named, self.constant(scale), zero, axis=axis)

    def bias(self, size: int) -> str:
        return self.constant(self.rng.standard_normal(size).astype(np.float32) / 4)

    def convolution(self, x: str, shape: tuple[int, ...], step: float, **attrs: Any) -> str:
        return self.add("Conv", self.quantized(x, step), self.weights(shape, 0), self.bias(shape[0]), **attrs)

    def saved(self, path: Path, result: str, given: tuple[int, ...], made: tuple[int, ...]) -> Path:
        kind, values = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self.nodes, "float8", [values("x", kind, given)], [values(result, kind, made)], self.constants
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, path)
        return path


def residual(path: Path) -> tuple[Path, tuple[int, ...]]:
    """A first convolution, maxima of windows, a residual block whose branch is quantized, and a classifier."""
    w, given = Writer(), (2, 3, 20, 20)
    x = w.add("Relu", w.convolution("x", (16, 3, 3, 3), 0.01, strides=[2, 2], pads=[1, 1, 1, 1]))
    x = w.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = w.add("Relu", w.convolution(x, (32, 16, 3, 3), 0.01, pads=[1, 1, 1, 1]))
    y = w.convolution(y, (16, 32, 1, 1), 0.02)
    x = w.add("Relu", w.add("Add", y, w.quantized(x, 0.01)))
    x = w.add("Flatten", w.add("GlobalAveragePool", x))
    x = w.add("Gemm", w.quantized(x, 0.005), w.weights((10, 16), 0), w.bias(10), transB=1)
    return w.saved(path, x, given, (2, 10)), given


def perceptron(path: Path) -> tuple[Path, tuple[int, ...]]:
    """Rows through products as transformers have them, biases added behind them, and a GELU between."""
    w, given = Writer(), (2, 7, 32)
    x = w.add("MatMul", w.quantized("x", 0.01), w.weights((32, 64), 1))
    x = w.add("Gelu", w.add("Add", w.bias(64), x))
    y = w.add("Add", w.add("MatMul", w.quantized(x, 0.01), w.weights((64, 32), 1)), w.bias(32))
    x = w.add("Add", y, "x")
    return w.saved(path, x, given, given), given


@pytest.mark.parametrize("build", [residual, perceptron])
@pytest.mark.parametrize("level", [0, 3])
def test_results_are_those_of_onnxruntime(build: Any, level: int, tmp_path: Path) -> None:
    path, shape = build(tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()  # its optimizer leaves a Relu out in front of a QuantizeLinear to float8
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    context = tenonrt.compile(path, optimization_level=level).create_context()
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 2
        (expected,), (found,) = session.run(None, {"x": x}), context.execute({"x": x}).values()
        # Sums in another order turn a few roundings the other way, each by a sixteenth of one value.
        assert np.sqrt(np.mean((found - expected) ** 2)) <= 4e-3 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize(("build", "products"), [(residual, 4), (perceptron, 2)])
def test_every_product_is_between_dequantized_operands(build: Any, products: int, tmp_path: Path) -> None:
    """What kernels look for: weights behind a Dequantize, biases in the product, no zero points, one reader each."""
    network = tenonrt.parse(build(tmp_path / "model.onnx")[0])
    assert not run_passes(network.graph, network.registry).quarantined
    found = [layer for layer in network.layers if layer.kind in ("Convolution", "FullyConnected")]
    assert len(found) == products
    for layer in found:
        for tensor in layer.inputs[:2]:
            assert tensor is not None
            assert tensor.producer is not None
            assert tensor.producer.kind == "Dequantize"
            assert tensor.producer.inputs[2:] in ((), (None,))
            assert [reader.name for reader in tensor.readers] == [layer.name]
        assert layer.inputs[2] is not None
        assert layer.inputs[2].constant is not None
    if build is residual:  # maxima are taken of what is quantized, half as many bytes
        assert [layer.inputs[0].type.dtype for layer in network.layers if layer.kind == "Pooling"] == [FLOAT8]
