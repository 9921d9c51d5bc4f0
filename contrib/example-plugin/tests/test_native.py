"""The kernel in C, called as the runtime calls it: by its address, on ranges of its units."""

from __future__ import annotations

import ctypes
import shutil
from typing import Any

import numpy as np
import pytest
from acme_tenonrt.layer import Swish6Attributes
from acme_tenonrt.native import NativeKernel
from tenonrt.contracts import NativeCall, Problem, ProblemInput, ProblemLayer, TensorType, symbol

SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler called cc")


def problem(beta: float = 6.0) -> Problem:
    layer = ProblemLayer("acme.Swish6", Swish6Attributes(beta), (0,), (1,))
    type = TensorType((symbol("s0"), 3, symbol("s1")))
    return Problem((layer,), (ProblemInput("activation"),), (type, type), (1,), "cpu")


def bound(posed: Problem) -> Any:
    kernel = NativeKernel()
    [tactic] = kernel.tactics(posed)
    return kernel.bind(kernel.compile(posed, tactic), [])


@needs_compiler
def test_units_are_elements_at_every_size() -> None:
    call = bound(problem())
    assert isinstance(call, NativeCall)
    assert [call.units((2, 5)), call.units((0, 5)), call.units((1, 1))] == [30, 0, 3]


@needs_compiler
def test_ranges_compute_their_own_elements() -> None:
    call = bound(problem(4.5))
    x = np.array([-np.inf, -4, -3, -1, 0, 1, 1.5, 2, 99, np.nan], np.float32)
    y = np.full_like(x, 7)
    buffers = (ctypes.c_void_p * 2)(y.ctypes.data, x.ctypes.data)
    function = SIGNATURE(call.address)
    assert function(ctypes.addressof(buffers), None, None, 1, 4) == 0
    assert np.array_equal(y[[0, 4, 9]], [7, 7, 7])
    assert function(ctypes.addressof(buffers), None, None, 4, 10) == 0
    wide = x[1:].astype(np.float64)
    expected = wide * np.minimum(np.maximum(wide + 3, 0), 4.5) / 4.5
    assert np.allclose(y[1:], expected, rtol=1e-6, equal_nan=True)


def test_without_a_compiler_it_refuses_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    support = NativeKernel().supports(problem())
    assert not support.ok
    assert "compiler" in support.why
