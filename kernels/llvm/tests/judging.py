"""One layer with its neighbours as a problem, and a kernel's every tactic judged on it as the builder judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.target import AVX2, AVX512, BASELINE, NEON, Target, runs_here

TARGETS = [t for t in (AVX512, AVX2, BASELINE, NEON) if runs_here(t)]
REGISTRY = Registry()


def problem_of(define: Callable[[tenonrt.Network], Any]) -> Problem:
    """The problem of a network whose layers are one region; ``define`` returns its output."""
    network = tenonrt.Network("problem")
    network.mark_output(define(network), "y")
    return pose(make_region(network.graph, network.graph.layers), "cpu", 2).problem


def weights(*shape: int) -> Any:
    """The same values every time."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def with_tail(network: tenonrt.Network, y: Any, tail: str) -> Any:
    """y followed by the pointwise layers of this name; "none": by nothing."""
    if tail == "relu":
        return network.add_activation(y, function="relu")
    if tail == "silu":
        return network.add_elementwise(y, network.add_activation(y, function="sigmoid"), operation="prod")
    if tail == "sum":
        return network.add_elementwise(network.add_input("other", y.type.shape), y, operation="sum")
    if tail == "residual":
        other = network.add_input("other", y.type.shape)
        return network.add_activation(network.add_elementwise(other, y, operation="sum"), function="tanh")
    if tail == "prelu":
        slopes = weights(y.type.shape[1], *[1] * (y.type.rank - 2))
        return network.add("ParametricRelu", [y, slopes])[0]
    if tail == "scale":
        channels = weights(y.type.shape[1], *[1] * (y.type.rank - 2)) if y.type.rank > 2 else weights(y.type.shape[1])
        return network.add_elementwise(network.add_elementwise(y, channels, operation="prod"), 0.5, operation="sum")
    return y


def judge(kernel: LlvmKernel, problem: Problem, target: Target, sizes: tuple[int, ...] = (1,)) -> list[str]:
    """The keys of the tactics that were tried: canaries, NaN-filled outputs, in slices, against float64."""
    device, layer_types = REGISTRY.device("cpu"), REGISTRY.layer_type
    with pytest.MonkeyPatch.context() as patch, using(REGISTRY):
        patch.setenv("TENONRT_LLVM_TARGET", target.name)
        support = kernel.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, layer_types, size, seed) for seed, size in enumerate(sizes)]
        tactics = kernel.tactics(problem)
        assert tactics
        for tactic in tactics:
            verdict, code = try_tactic(kernel, problem, tactic, samples, layer_types, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
            assert code.native is not None
    return [tactic.key for tactic in tactics]


def compiles(kernel: LlvmKernel, problem: Problem, target: Target) -> None:
    """Every tactic becomes an object file of a target that need not run here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENONRT_LLVM_TARGET", target.name)
        for tactic in kernel.tactics(problem):
            assert kernel.generate(problem, tactic, target).blob
