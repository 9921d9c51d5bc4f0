"""Engines in bfloat16 on a GPU: small networks against another runtime in float32, and kernels tactic by tactic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.config import LayerPrecision
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Kernel, Problem
from tenonrt.plugins.registry import KERNELS, Registry, using
from tenonrt_kernel_nvrtc.attention.kernel import AttentionKernel
from tenonrt_kernel_nvrtc.products.mapped import MappedProductKernel
from tenonrt_kernel_nvrtc.products.product import ProductKernel
from tenonrt_kernel_nvrtc.reductions.normalization import NormalizationKernel
from tenonrt_kernel_nvrtc.reductions.reduce import ReduceKernel
from tenonrt_kernel_nvrtc.reductions.softmax import SoftmaxKernel

REGISTRY = Registry()
# Operands and results are rounded to 8 bits, sums are not; in units of the largest result.
ROUNDINGS = 2.0**-6
RNG = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return (RNG.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


# whole engines ------------------------------------------------------------------------------------------------------


class Model:
    """An ONNX model that is written node by node."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.nodes.append(helper.make_node(kind, names, [f"t{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def save(self, path: Path, result: str, shape: Sequence[int], dtype: int = 1) -> Any:
        """With one input ``x``."""
        from onnx import helper, save

        x = helper.make_tensor_value_info("x", dtype, shape)
        graph = helper.make_graph(
            self.nodes, "net", [x], [helper.make_tensor_value_info(result, 1, None)], self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        save(model, path)
        return model


def images(path: Path) -> dict[str, Any]:
    """Convolutions, one of them depthwise, a residual, pooling, a mean, a classifier."""
    m, both = Model(), [1, 1, 1, 1]
    y = m.add("Relu", m.add("Conv", "x", drawn(32, 3, 3, 3), drawn(32), pads=both, strides=[2, 2]))
    y = m.add("Conv", y, 3 * drawn(32, 1, 3, 3), drawn(32), pads=both, group=32)
    y = m.add("Relu", m.add("Conv", m.add("Clip", y, np.float32(0), np.float32(6)), drawn(64, 32, 1, 1), drawn(64)))
    z = m.add("Conv", y, drawn(64, 64, 3, 3), drawn(64), pads=both)
    y = m.add("Relu", m.add("Add", z, y))
    y = m.add("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = m.add("Flatten", m.add("GlobalAveragePool", y))
    m.save(path, m.add("Softmax", m.add("Gemm", y, drawn(40, 64), drawn(40), transB=1), axis=-1), (2, 3, 32, 32))
    return {"x": RNG.standard_normal((2, 3, 32, 32)).astype(np.float32)}


def sequences(path: Path) -> dict[str, Any]:
    """An embedding and a block of a transformer: normalization, attention of two heads, GELU."""
    m, width, heads = Model(), 128, 2
    ones = np.ones(width, np.float32)
    x = m.add("LayerNormalization", m.add("Gather", RNG.standard_normal((50, width)).astype(np.float32), "x"),
              ones, drawn(width), axis=-1)  # fmt: skip

    def dense(value: str, inner: int, outer: int) -> str:
        return m.add("Add", m.add("MatMul", value, drawn(outer, inner).T.copy()), drawn(outer))

    def split(value: str, order: Sequence[int]) -> str:
        return m.add("Transpose", m.add("Reshape", value, np.array([2, 40, heads, -1])), perm=order)

    q, k, v = (split(dense(x, width, width), p) for p in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)))
    scores = m.add("Div", m.add("MatMul", q, k), np.float32(8))
    y = m.add("Transpose", m.add("MatMul", m.add("Softmax", scores, axis=-1), v), perm=(0, 2, 1, 3))
    y = m.add("Add", dense(m.add("Reshape", y, np.array([2, 40, width])), width, width), x)
    y = m.add("LayerNormalization", y, ones, drawn(width), axis=-1)
    h = dense(y, width, 256)
    h = m.add("Mul", m.add("Mul", h, m.add("Add", m.add("Erf", m.add("Div", h, np.float32(2**0.5))), np.float32(1))),
              np.float32(0.5))  # fmt: skip
    m.save(path, m.add("Add", dense(h, 256, width), y), (2, 40), 7)
    return {"x": RNG.integers(0, 50, (2, 40))}


def expected(path: Path, given: dict[str, Any]) -> Any:
    """By onnxruntime in float32; by the evaluator of ONNX itself where that is not installed."""
    try:
        from onnxruntime import InferenceSession
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(str(path)).run(None, given)[0]
    return InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, given)[0]


@pytest.mark.parametrize("network", [images, sequences])
def test_a_network_in_bfloat16(network: Any, tmp_path: Path) -> None:
    """No step is left to the host, and what is not said to be bfloat16 only moves or ends a tensor."""
    pytest.importorskip("onnx")
    given = network(tmp_path / "net.onnx")
    engine = tenonrt.compile(tmp_path / "net.onnx", device="cuda", precision="bfloat16")
    (found,) = engine.create_context().execute(given).values()
    exact = expected(tmp_path / "net.onnx", given)
    assert np.abs(np.asarray(found) - exact).max() < 2 * ROUNDINGS * np.abs(exact).max()
    steps = [(step.kernel.rpartition(":")[2], step.tactic) for step in engine.report.steps]
    assert not [kernel for kernel, _ in steps if kernel.startswith("*/")]
    assert any("bfloat16" in tactic for _, tactic in steps)
    assert not any("float16" in tactic.replace("bfloat16", "") for _, tactic in steps)
    assert not any("bfloat16 is permitted, but" in note for note in engine.report.notes)


def test_layers_that_half_precision_cannot_hold() -> None:
    """Two layers of four obey bfloat16: what lies between them is past 65504. Formats convert on the GPU."""
    net, x = tenonrt.Network("large"), RNG.standard_normal((32, 64)).astype(np.float32)
    made, exact = net.add_input("x", (32, 64)), x.astype(np.float64)
    for name, factor in (("first", 1.0), ("up", 1e6), ("down", 1e-6), ("last", 1.0)):
        weights = np.float32(factor) * drawn(64, 64)
        made, exact = net.add_fully_connected(made, weights, name=name), exact @ weights.T.astype(np.float64)
    net.mark_output(made, "y")
    obeyed = tuple(LayerPrecision(name, "bfloat16") for name in ("up", "down"))
    engine = tenonrt.compile(net, device="cuda", precision="float16", layer_precisions=obeyed)
    found = np.asarray(engine.create_context().execute({"x": x})["y"])
    assert np.abs(found - exact).max() < 2 * ROUNDINGS * np.abs(exact).max()
    kernels = [step.kernel.rpartition(":")[2] for step in engine.report.steps]
    assert not [kernel for kernel in kernels if kernel.startswith("*/")]


# kernels ------------------------------------------------------------------------------------------------------------


def problem_of(define: Any) -> Problem:
    network = tenonrt.Network("problem", REGISTRY)
    network.mark_output(define(network), "y")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


def judge(kernel: Kernel, problem: Problem, most: int = 99) -> int:
    """How many tactics there are in bfloat16; one that is further off than roundings are fails."""
    device = REGISTRY.device("cuda")
    with using(REGISTRY):
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        tactics = [t for t in kernel.tactics_within(problem, "bfloat16".__eq__) if t.precision == "bfloat16"][:most]
        for tactic in tactics:
            verdict, _ = try_tactic(kernel, problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
            assert verdict.error <= ROUNDINGS, f"{tactic.key}: off by {verdict.error:.2g} of the largest result"
    return len(tactics)


def instance(name: str) -> Kernel:
    entry = next(e for e in REGISTRY.usable(KERNELS) if e.name == name)
    with using(REGISTRY):
        kernel: Kernel = REGISTRY.instance(entry)
    return kernel


def convolution(net: tenonrt.Network, window: int, tail: str = "sum relu", stride: int = 1) -> Any:
    x, both = net.add_input("x", (2, 24, 15, 13)), (window // 2,) * 2
    y = net.add_convolution(
        x, drawn(40, 24, window, window), drawn(40), stride=(stride,) * 2, pre_padding=both, post_padding=both
    )
    if "sum" in tail:
        y = net.add_elementwise(y, net.add_input("z", tuple(y.type.shape)), operation="sum")
    return net.add_activation(y, function="relu") if "relu" in tail else y


def dense(net: tenonrt.Network, tail: str, m: int = 300, k: int = 200, n: int = 768) -> Any:
    y = net.add_fully_connected(net.add_input("x", (m, k)), drawn(n, k), drawn(n))
    if "gelu" in tail:
        y = net.add_activation(y, function="gelu")
    if "sum" in tail:
        y = net.add_elementwise(y, net.add_input("z", (m, n)), operation="sum")
    if "norm" in tail:
        y = net.add("LayerNormalization", [y, 1 + drawn(n), drawn(n)], {"axis": -1})[0]
    return y


def attention(net: tenonrt.Network, depth: int, masked: bool) -> Any:
    q, k, v = (net.add_input(name, (2, 3, 100, depth)) for name in "qkv")
    scores = net.add("MatrixMultiply", [q, k], {"transpose_b": True})[0]
    scores = net.add_elementwise(scores, np.float32(depth**-0.5), operation="prod")
    if masked:
        scores = net.add_elementwise(scores, net.add_input("mask", (2, 1, 1, 100)), operation="sum")
    return net.add("MatrixMultiply", [net.add("Softmax", [scores], {"axis": -1})[0], v], {})[0]


@pytest.mark.parametrize(
    ("kernel", "define"),
    [
        (ProductKernel(), lambda net: convolution(net, 3)),
        (ProductKernel(), lambda net: convolution(net, 5, "relu", 2)),
        (ProductKernel(), lambda net: dense(net, "gelu sum")),
        (MappedProductKernel(), lambda net: convolution(net, 1)),
        (MappedProductKernel(), lambda net: dense(net, "gelu")),
        (MappedProductKernel(), lambda net: dense(net, "sum norm")),
        (AttentionKernel(), lambda net: attention(net, 64, True)),
        (AttentionKernel(), lambda net: attention(net, 32, True)),
        (AttentionKernel(), lambda net: attention(net, 64, False)),
        (NormalizationKernel(), lambda net: net.add(
            "LayerNormalization", [net.add_input("x", (9, 700)), 1 + drawn(700), drawn(700)], {"axis": -1})[0]),
        (SoftmaxKernel(), lambda net: net.add("Softmax", [net.add_input("x", (9, 700))], {"axis": -1})[0]),
        (ReduceKernel(), lambda net: net.add(
            "Reduce", [net.add_input("x", (2, 20, 9, 7))], {"operation": "mean", "axes": (2, 3)})[0]),
    ],
    ids=["window", "stride", "rows", "pixels", "mapped", "normalized", "masked", "narrow heads", "unmasked", "norm",
         "softmax", "mean"],
)  # fmt: skip
def test_generated_kernels(kernel: Kernel, define: Any) -> None:
    assert judge(kernel, problem_of(define), 6)


@pytest.mark.parametrize(
    ("name", "define"),
    [
        ("cuda/Convolution.cudnn_graph", lambda net: convolution(net, 3)),
        ("cuda/Convolution.cublaslt_pointwise", lambda net: convolution(net, 1, "relu")),
        ("cuda/FullyConnected.cublaslt", lambda net: dense(net, "gelu")),
        ("cuda/FullyConnected.triton_product", lambda net: dense(net, "sum")),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
def test_kernels_of_libraries(name: str, define: Any) -> None:
    if "triton" in name:
        pytest.importorskip("triton")
    assert judge(instance(name), problem_of(define), 6)
