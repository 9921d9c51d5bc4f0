"""One layer with its neighbours as a problem, and a kernel's every tactic judged on it as the builder judges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
