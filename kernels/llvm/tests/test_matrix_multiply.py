"""Products of two activations of random shapes against the float64 reference, for every target that runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt.contracts import Problem, symbol
from tenonrt_kernel_llvm.matrix_multiply import LlvmMatrixMultiply
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target

FEW = settings(max_examples=12, deadline=None)
SIZES = st.one_of(st.integers(1, 20), st.integers(30, 70))
BATCHES = st.sampled_from([((), ()), ((3,), (3,)), ((2, 3), (2, 3)), ((2, 1), (3,)), ((4,), ()), ((), (2, 2))])


def product(a: Any, b: Any, tail: str = "none", **attrs: bool) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        left, right = network.add_input("a", a), network.add_input("b", b)
        y = network.add_matrix_multiply(left, right, **attrs)
        if tail == "gelu":
            y = network.add_activation(network.add_elementwise(y, 0.125, operation="prod"), function="gelu")
        if tail == "residual":
            y = network.add_elementwise(y, network.add_input("other", y.type.shape), operation="sum")
        if tail == "bias":
            y = network.add_elementwise(y, np.ones(y.type.shape[-1], np.float32), operation="sum")
        return y

    return problem_of(define)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    batch=BATCHES, m=SIZES, n=SIZES, k=SIZES, transpose_a=st.booleans(), transpose_b=st.booleans(),
    tail=st.sampled_from(["none", "gelu", "residual", "bias"]),
)  # fmt: skip
def test_products(
    target: Target, batch: Any, m: int, n: int, k: int, transpose_a: bool, transpose_b: bool, tail: str
) -> None:
    a = (*batch[0], k, m) if transpose_a else (*batch[0], m, k)
    b = (*batch[1], n, k) if transpose_b else (*batch[1], k, n)
    problem = product(a, b, tail, transpose_a=transpose_a, transpose_b=transpose_b)
    judge(LlvmMatrixMultiply(), problem, target)


@pytest.mark.parametrize(
    "shapes", [((9,), (9, 33)), ((3, 5, 9), (9,)), ((70,), (70,)), ((1, 300), (300, 200))], ids=str
)
def test_vectors(shapes: tuple[Any, Any]) -> None:
    judge(LlvmMatrixMultiply(), product(*shapes), TARGETS[0])


def test_symbolic_batch() -> None:
    n = symbol("n", 1, 8)
    problem = product((n, 7, 5), (n, 5, 19), "gelu")
    assert LlvmMatrixMultiply().supports(problem).runtime_symbols == "all"
    judge(LlvmMatrixMultiply(), problem, TARGETS[0], (1, 5))


def test_symbolic_rows() -> None:
    judge(LlvmMatrixMultiply(), product((symbol("n", 1, 40), 5), (5, 19)), TARGETS[0], (3, 33))


def test_takes_floats_only() -> None:
    def define(network: tenonrt.Network) -> Any:
        return network.add_matrix_multiply(*(network.add_input(name, (4, 4), "int32") for name in "ab"))

    assert "int32" in LlvmMatrixMultiply().supports(problem_of(define)).why


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE, NEON], ids=lambda t: t.name)
def test_compiles(target: Target) -> None:
    if target is not NEON or target in TARGETS:
        compiles(LlvmMatrixMultiply(), product((2, 33, 40), (2, 40, 50), "gelu"), target)
