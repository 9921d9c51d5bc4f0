"""Kernels begin before those they follow have ended, and wait for them before they touch what those may write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from nvrtc_emulation import problem_of
from tenonrt.contracts import UnsupportedError
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.kernel import BEGIN, beginning
from tenonrt_kernel_nvrtc.pointwise import PointwiseKernel
from tenonrt_kernel_nvrtc.reductions.normalization import NormalizationKernel
from tenonrt_kernel_nvrtc.reductions.softmax import SoftmaxKernel
from tenonrt_kernel_nvrtc.storage import prelude


def norm(net: tenonrt.Network) -> Any:
    x, z = net.add_input("x", (3, 5, 768)), net.add_input("z", (3, 5, 768))
    parameters = [np.ones(768, np.float32)] * 2
    added = net.add("Elementwise", [x, z], {"operation": "sum"})[0]
    return net.add("LayerNormalization", [added, *parameters], {"axis": -1})[0]


def chain(net: tenonrt.Network) -> Any:
    return net.add_activation(net.add_input("x", (3, 5)), function="relu")


def softmax(net: tenonrt.Network) -> Any:
    return net.add("Softmax", [net.add_input("x", (3, 40))], {"axis": -1})[0]


def test_waiting_comes_first_in_the_kernel() -> None:
    source, _ = PointwiseKernel().generate(problem_of(chain), PointwiseKernel().tactics(problem_of(chain))[0])
    made = beginning(source)
    head, _, body = made.partition(" kernel(")
    assert BEGIN not in head
    assert body.partition("{")[2].lstrip().startswith(BEGIN)
    assert made.replace(f"\n    {BEGIN}", "", 1) == source


def test_norms_read_nothing_but_their_parameters_before() -> None:
    problem, kernel = problem_of(norm), NormalizationKernel()
    for tactic in kernel.tactics(problem):
        source, _ = kernel.generate(problem, tactic)
        before, _, after = source[source.index(" kernel(") :].partition(BEGIN)
        before = before.partition("{")[2]
        assert "scale[" in before
        assert "x0" not in before
        assert "out" not in before
        assert "scale[" not in after


@pytest.mark.parametrize("define", [norm, chain, softmax])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
def test_older_architectures_do_without(define: Any, architecture: str) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = problem_of(define)
    kernel = {norm: NormalizationKernel, chain: PointwiseKernel, softmax: SoftmaxKernel}[define]()
    tactics = kernel.tactics(problem)
    for tactic in (*tactics[:2], tactics[-1]):
        source, _ = kernel.generate(problem, tactic)
        whole = source if kernel.begins_itself else beginning(source)
        assert compile_cubin(prelude(tactic) + whole, architecture).startswith(b"\x7fELF")
