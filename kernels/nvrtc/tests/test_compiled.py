"""Kernels whose threads work on their own, compiled for GPUs of two generations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from nvrtc_emulation import problem_of
from tenonrt.contracts import UnsupportedError
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.images.pooling import PoolingKernel
from tenonrt_kernel_nvrtc.images.resize import ResizeKernel
from tenonrt_kernel_nvrtc.kernel import CudaKernel, beginning
from tenonrt_kernel_nvrtc.movement import MovementKernel
from tenonrt_kernel_nvrtc.reductions.softmax_columns import SoftmaxColumnsKernel
from tenonrt_kernel_nvrtc.storage import prelude


def resize(net: tenonrt.Network) -> Any:
    scales = np.array([1, 1, 2, 2], np.float32)
    return net.add("Resize", [net.add_input("x", (1, 16, 5, 5)), None, scales], {"mode": "linear"})[0]


def split(net: tenonrt.Network) -> Any:
    return net.add("Split", [net.add_input("x", (1, 16, 5, 5))], {"axis": 1, "parts": 2})


def softmax(net: tenonrt.Network) -> Any:
    return net.add("Softmax", [net.add_input("x", (1, 16, 4, 40))], {"axis": 1})[0]


def maxima(dtype: str) -> Any:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (1, 16, 9, 9), dtype)
        return net.add_pooling(x, function="max", window=(3, 3), stride=(2, 2), pre_padding=(1, 1))

    return define


@pytest.mark.parametrize(("kernel", "define"), [
    (ResizeKernel, resize), (MovementKernel, split), (SoftmaxColumnsKernel, softmax),
    *((PoolingKernel, maxima(dtype)) for dtype in ("float32", "int8", "uint8")),
])  # fmt: skip
def test_every_tactic_compiles(kernel: type[CudaKernel], define: Any) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = problem_of(define)
    for tactic in kernel().tactics(problem):
        source, _ = kernel().generate(problem, tactic)
        for architecture in ("sm_80", "sm_90a"):
            assert compile_cubin(prelude(tactic) + beginning(source), architecture)
