"""What is asked of cuBLASLt, which needs no GPU to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import draw_inputs, reference_outputs
from tenonrt.contracts import LINEAR, Code, Format, Problem, Tactic, Weights
from tenonrt.plugins.registry import Registry
from tenonrt_kernel_cublaslt import batched, matmul, products
from tenonrt_kernel_cublaslt.library import ARITHMETIC, Heuristic, missing
from tenonrt_kernel_cublaslt.matmul import Description

REGISTRY = Registry()


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    net = tenonrt.Network("product", REGISTRY)
    net.mark_output(define(net), "y")
    return pose(make_region(net.graph, net.graph.layers), "cuda", 1).problem


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def dense(net: tenonrt.Network) -> Any:
    y = net.add("FullyConnected", [net.add_input("x", (2, 5, 16)), weights(24, 16), weights(24)], {})[0]
    y = net.add_elementwise(y, net.add_input("z", (2, 5, 24)), operation="sum")
    return net.add_activation(y, function="gelu")


def pointwise(net: tenonrt.Network) -> Any:
    y = net.add_convolution(net.add_input("x", (2, 12, 3, 5)), weights(20, 12, 1, 1), weights(20))
    return net.add_activation(y, function="relu")


def square(net: tenonrt.Network) -> Any:
    return net.add("MatrixMultiply", [net.add_input("a", (4, 8, 16)), net.add_input("b", (4, 16, 32))], {})[0]


def test_descriptions() -> None:
    assert products.description(problem_of(dense), "float16") == Description(10, 24, 16, "bias+gelu", added=True)
    narrow = Description(30, 24, 16, "bias+relu", precision="bfloat16")
    assert products.description(problem_of(pointwise), "bfloat16") == narrow


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "tf32", "float32"])
@pytest.mark.parametrize("define", [dense, pointwise])
def test_packed_weights_compute_the_layers(define: Callable[[tenonrt.Network], Any], precision: str) -> None:
    """y = epilogue(x w^T + c) row by row, in NumPy, against the layers' references."""
    problem = problem_of(define)
    inputs, d = draw_inputs(problem, REGISTRY.layer_type, 0), products.description(problem, precision)
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
    given = Weights(tuple(inputs[i] for i in problem.constants))
    w, bias = products.ProductKernel().pack(Code(problem, Tactic(precision=precision)), given)
    assert w.shape == (d.n, d.k)
    assert w.dtype.name == bias.dtype.name == ARITHMETIC[precision].stored
    x = inputs[problem.layer.inputs[0]]
    if problem.layer.kind == "Convolution":
        x, expected = np.moveaxis(x, 1, -1), np.moveaxis(expected, 1, -1)
    rows = np.pad(x.reshape(d.m, -1), ((0, 0), (0, d.k - x.shape[-1]))).astype(np.float64)
    y = rows @ w.T.astype(np.float64) + bias.astype(np.float64)
    if d.added:
        y = y + inputs[problem.layers[1].inputs[1]].reshape(d.m, d.n)
    # The library's GELU is the tanh form.
    y = (
        np.maximum(y, 0)
        if "relu" in d.epilogue
        else 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    )
    count, tolerance = expected.shape[-1], 0.1 if precision == "bfloat16" else 0.02
    np.testing.assert_allclose(y[:, :count], expected.reshape(d.m, count), rtol=tolerance, atol=tolerance)


def test_stacks_are_batches_and_one_matrix_is_none() -> None:
    def stacks(net: tenonrt.Network) -> Any:
        a, b = net.add_input("a", (2, 3, 8, 16)), net.add_input("b", (2, 3, 24, 16))
        return net.add("MatrixMultiply", [a, b], {"transpose_b": True})[0]

    def one(net: tenonrt.Network) -> Any:
        return net.add("MatrixMultiply", [net.add_input("a", (4, 8, 16)), weights(16, 32)], {})[0]

    found = batched.description(problem_of(stacks), "float16")
    assert found == Description(8, 24, 16, batches=6, strides=(128, 384, 192))
    narrow = Description(32, 32, 16, transpose_w=False, precision="bfloat16")
    assert batched.description(problem_of(one), "bfloat16") == narrow


@pytest.mark.parametrize("kernel", [products.ProductKernel(), batched.BatchedKernel()])
def test_only_what_is_permitted_is_asked_of_the_library(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Description] = []

    class Library:
        """An algorithm for whatever is asked."""

        def __init__(self, description: Description) -> None:
            asked.append(description)

        def algorithms(self, most: int) -> dict[str, Any]:
            return {f"any {asked[-1].precision}": Heuristic()}

    for pack in (products, batched):
        monkeypatch.setattr(pack, "Product", Library)
    problem = problem_of(square if isinstance(kernel, batched.BatchedKernel) else dense)
    assert not kernel.tactics_within(problem, set().__contains__)
    assert not asked
    (tactic,) = kernel.tactics_within(problem, {"bfloat16"}.__contains__)
    assert [d.precision for d in asked] == ["bfloat16"]
    assert tactic.precision == tactic.output_format(0).dtype == "bfloat16"
    assert kernel.packing(problem, tactic) == "bfloat16"
    assert [tactic.precision for tactic in kernel.tactics(problem)] == [*ARITHMETIC]


def test_operands_in_single_precision_are_as_the_network_has_them() -> None:
    assert matmul.rows("tf32") == matmul.rows("float32") == LINEAR
    pixels = products._format(True, "tf32")
    assert pixels == Format((0, 2, 3, 1), ((1, 4),))
    assert (matmul.most(32, "tf32"), matmul.most(32, "float32")) == (32, 2)


@pytest.mark.skipif(not missing(), reason="cuBLASLt can be used here")
def test_without_a_gpu_it_is_refused_with_the_reason() -> None:
    support = products.ProductKernel().supports(problem_of(dense))
    assert not support.ok
    assert support.why == missing()
