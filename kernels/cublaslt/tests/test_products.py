"""What is asked of cuBLASLt, which needs no GPU to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import draw_inputs, reference_outputs
from tenonrt.contracts import Code, Problem, Tactic, Weights
from tenonrt.plugins.registry import Registry
from tenonrt_kernel_cublaslt import batched, products
from tenonrt_kernel_cublaslt.library import Heuristic, missing
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
    narrow = Description(30, 24, 16, "bias+relu", stored="bfloat16")
    assert products.description(problem_of(pointwise), "bfloat16") == narrow


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
@pytest.mark.parametrize("define", [dense, pointwise])
def test_packed_weights_compute_the_layers(define: Callable[[tenonrt.Network], Any], stored: str) -> None:
    """y = epilogue(x w^T + c) row by row, in NumPy, against the layers' references."""
    problem = problem_of(define)
    inputs, d = draw_inputs(problem, REGISTRY.layer_type, 0), products.description(problem, stored)
    (expected,) = reference_outputs(problem, REGISTRY.layer_type, inputs)
    given = Weights(tuple(inputs[i] for i in problem.constants))
    w, bias = products.ProductKernel().pack(Code(problem, Tactic(precision=stored)), given)
    assert w.shape == (d.n, d.k)
    assert w.dtype.name == bias.dtype.name == stored
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
    count, tolerance = expected.shape[-1], 0.02 if stored == "float16" else 0.1
    np.testing.assert_allclose(y[:, :count], expected.reshape(d.m, count), rtol=tolerance, atol=tolerance)


def test_stacks_are_batches_and_one_matrix_is_none() -> None:
    def stacks(net: tenonrt.Network) -> Any:
        a, b = net.add_input("a", (2, 3, 8, 16)), net.add_input("b", (2, 3, 24, 16))
        return net.add("MatrixMultiply", [a, b], {"transpose_b": True})[0]

    def one(net: tenonrt.Network) -> Any:
        return net.add("MatrixMultiply", [net.add_input("a", (4, 8, 16)), weights(16, 32)], {})[0]

    found = batched.description(problem_of(stacks), "float16")
    assert found == Description(8, 24, 16, batches=6, strides=(128, 384, 192))
    narrow = Description(32, 32, 16, transpose_w=False, stored="bfloat16")
    assert batched.description(problem_of(one), "bfloat16") == narrow


@pytest.mark.parametrize("kernel", [products.ProductKernel(), batched.BatchedKernel()])
def test_only_what_is_permitted_is_asked_of_the_library(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Description] = []

    class Library:
        """An algorithm for whatever is asked."""

        def __init__(self, description: Description) -> None:
            asked.append(description)

        def algorithms(self, most: int) -> dict[str, Any]:
            return {f"any {asked[-1].stored}": Heuristic()}

    for pack in (products, batched):
        monkeypatch.setattr(pack, "Product", Library)
    problem = problem_of(square if isinstance(kernel, batched.BatchedKernel) else dense)
    assert not kernel.tactics_within(problem, {"float32"}.__contains__)
    assert not asked
    (tactic,) = kernel.tactics_within(problem, {"float32", "bfloat16"}.__contains__)
    assert [d.stored for d in asked] == ["bfloat16"]
    assert tactic.precision == tactic.output_format(0).dtype == "bfloat16"
    assert kernel.packing(problem, tactic) == "bfloat16"
    assert [tactic.precision for tactic in kernel.tactics(problem)] == ["float16", "bfloat16"]


@pytest.mark.skipif(not missing(), reason="cuBLASLt can be used here")
def test_without_a_gpu_it_is_refused_with_the_reason() -> None:
    support = products.ProductKernel().supports(problem_of(dense))
    assert not support.ok
    assert support.why == missing()
