"""Attention as exporters write it, found in networks and judged against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Problem, symbol
from tenonrt.graph.passes import run_passes
from tenonrt_kernel_llvm.attention import LlvmAttention
from tenonrt_kernel_llvm.attention_graph import attention_regions
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, Target

FEW = settings(max_examples=10, deadline=None)


def heads(network: tenonrt.Network, x: Any, count: int) -> Any:
    """[batch, rows, count * depth] as [batch, count, rows, depth]."""
    _, rows, wide = x.type.shape
    split = network.add_reshape(x, np.array([0, rows, count, wide // count]))
    return network.add_transpose(split, permutation=(0, 2, 1, 3))


def between(network: tenonrt.Network, scores: Any, mask: str) -> Any:
    *batch, rows, keys = scores.type.shape
    if mask == "added":
        return network.add_elementwise(scores, network.add_input("mask", (1, 1, rows, keys)), operation="sum")
    if mask == "by key":
        return network.add_elementwise(scores, network.add_input("mask", (batch[0], 1, 1, keys)), operation="sum")
    if mask == "chosen":
        chosen = network.add_input("mask", (1, 1, rows, keys), "bool")
        return network.add_select(chosen, scores, np.float32(-np.inf))
    return scores


def block(
    batch: Any, rows: int, keys: int, count: int, depth: int, mask: str = "none", guard: bool = False
) -> tenonrt.Network:
    """Between the projections and the output projection."""
    network = tenonrt.Network("attention")
    query = heads(network, network.add_input("q", (batch, rows, count * depth)), count)
    key = heads(network, network.add_input("k", (batch, keys, count * depth)), count)
    value = heads(network, network.add_input("v", (batch, keys, count * depth)), count)
    scale = np.float32(depth**-0.25)
    query = network.add_elementwise(query, scale, operation="prod")
    key = network.add_elementwise(network.add_transpose(key, permutation=(0, 1, 3, 2)), scale, operation="prod")
    scores = between(network, network.add_matrix_multiply(query, key), mask)
    weights = network.add_softmax(scores, axis=-1)
    if guard:
        weights = network.add_select(network.add_unary(weights, operation="is_nan"), np.float32(0), weights)
    mixed = network.add_matrix_multiply(weights, value)
    back = network.add_transpose(mixed, permutation=(0, 2, 1, 3))
    network.mark_output(network.add_reshape(back, np.array([0, rows, count * depth])), "y")
    return network


def problems(network: tenonrt.Network) -> list[Problem]:
    """Those of all regions, the smallest first."""
    graph = network.graph
    run_passes(graph, network.registry)
    first = next(layer for layer in graph.layers if layer.kind == "MatrixMultiply")
    found = attention_regions(graph, first)
    return [pose(make_region(graph, region), "cpu", 2).problem for region in found]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@FEW
@given(
    batch=st.integers(1, 3), rows=st.integers(1, 40), keys=st.integers(1, 40), count=st.integers(1, 3),
    depth=st.integers(1, 36), mask=st.sampled_from(["none", "added", "by key", "chosen"]), guard=st.booleans(),
)  # fmt: skip
def test_blocks(
    target: Target, batch: int, rows: int, keys: int, count: int, depth: int, mask: str, guard: bool
) -> None:
    found = problems(block(batch, rows, keys, count, depth, mask, guard))
    judge(LlvmAttention(), found[-1], target)
    judge(LlvmAttention(), found[0], target)


def test_the_whole_block_is_one_step() -> None:
    """Operands are the projections, [batch, rows, heads * depth], and so is the result."""
    problem = problems(block(1, 32, 32, 4, 16, "added", guard=True))[-1]
    assert sorted(problem.types[i].shape for i in problem.activations) == [(1, 1, 32, 32), *[(1, 32, 64)] * 3]
    assert [problem.types[i].shape for i in problem.outputs] == [(1, 32, 64)]


def test_symbolic_batch() -> None:
    problem = problems(block(symbol("n", 1, 4), 9, 21, 2, 8, "added"))[-1]
    assert LlvmAttention().supports(problem).runtime_symbols == "all"
    judge(LlvmAttention(), problem, TARGETS[0], (1, 3))


def test_few_heads_are_split_by_rows() -> None:
    judge(LlvmAttention(), problems(block(1, 130, 33, 1, 24))[-1], TARGETS[0])


@pytest.mark.parametrize("guard", [True, False])
def test_rows_without_keys(guard: bool) -> None:
    """A row that is masked everywhere is NaN, or zeros where the exporter guards against that."""
    problem, kernel = problems(block(1, 7, 20, 2, 8, "added", guard))[-1], LlvmAttention()
    sample = Sample.draw(problem, REGISTRY.layer_type, 1, 0)
    for number, array in enumerate(sample.inputs):
        if array.shape == (1, 1, 7, 20):
            sample.inputs[number] = np.where(np.arange(7)[:, None] == 3, -np.inf, array).astype(np.float32)
    bound = bind_sample(kernel, kernel.compile(problem, kernel.tactics(problem)[0]), sample, REGISTRY.device("cpu"))
    REGISTRY.device("cpu").bind([bound.launch], 2).run(None)
    (y,) = bound.read()
    assert np.isfinite(np.delete(y, 3, 1)).all()
    assert (y[:, 3] == 0).all() if guard else np.isnan(y[:, 3]).all()


def test_other_graphs_are_refused() -> None:
    def define(network: tenonrt.Network) -> Any:
        y = network.add_matrix_multiply(network.add_input("a", (4, 5)), network.add_input("b", (5, 6)))
        y = network.add_softmax(y, axis=0)
        return network.add_matrix_multiply(y, network.add_input("c", (6, 7)))

    assert "another axis" in LlvmAttention().supports(problem_of(define)).why


@pytest.mark.parametrize("target", [AVX512, AVX2, BASELINE], ids=lambda t: t.name)
def test_compiles(target: Target) -> None:
    compiles(LlvmAttention(), problems(block(2, 33, 40, 2, 20, "added", guard=True))[-1], target)
