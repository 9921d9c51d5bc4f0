"""acme.Swish6: its meaning, its mapping and its kernels, against the formula in Python's own floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from acme_tenonrt.kernels import BLOCK, BlockedKernel, UfuncKernel
from acme_tenonrt.layer import Swish6Attributes, Swish6Layer
from acme_tenonrt.mapping import swish6
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import (
    Kernel,
    Problem,
    ProblemInput,
    ProblemLayer,
    SourceNode,
    TensorInfo,
    TensorType,
    Weights,
    symbol,
)

KERNELS = [UfuncKernel(), BlockedKernel()]


def formula(x: np.ndarray, beta: float) -> np.ndarray:
    return np.array([v * min(max(v + 3, 0), beta) / beta for v in x.ravel().tolist()]).reshape(x.shape)


def problem(dtype: str = "float32", beta: float = 6.0) -> Problem:
    layer = ProblemLayer("acme.Swish6", Swish6Attributes(beta), (0,), (1,))
    return Problem((layer,), (ProblemInput("activation"),), (TensorType((symbol("s0"),), dtype),) * 2, (1,), "cpu")


def run(kernel: Kernel, posed: Problem, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    [tactic] = kernel.tactics(posed)
    code = kernel.compile(posed, tactic)
    assert isinstance(tactic.workspace, int)
    kernel.bind(code, kernel.pack(code, Weights(()))).launch([x], [y], np.empty(tactic.workspace, np.uint8), None)
    return y


@given(st.lists(st.floats(-1e3, 1e3)), st.floats(0.1, 10))
def test_reference(values: list[float], beta: float) -> None:
    x = np.array(values)
    [y] = Swish6Layer().reference(Swish6Attributes(beta), [x], None)  # type: ignore[arg-type]
    assert np.allclose(y, formula(x, beta), rtol=1e-14)


def test_infer_keeps_the_type_and_refuses_what_makes_no_sense() -> None:
    half = TensorInfo(TensorType((symbol("n"), 3), "float16"))
    assert Swish6Layer().infer(Swish6Attributes(), [half])[0].type == half.type
    with pytest.raises(ValueError, match=r"beta is 0"):
        Swish6Layer().infer(Swish6Attributes(0), [half])
    with pytest.raises(ValueError, match=r"int32\[2\], expected a floating-point type"):
        Swish6Layer().infer(Swish6Attributes(), [TensorInfo(TensorType((2,), "int32"))])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [0, 1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels(kernel: Kernel, size: int, dtype: str) -> None:
    assert kernel.supports(problem(dtype)).runtime_symbols == "all"
    x = np.random.default_rng(0).normal(0, 4, size).astype(dtype)
    y = run(kernel, problem(dtype, 4.5), x, np.full_like(x, np.nan))
    assert np.allclose(y, formula(x, 4.5), rtol=1e-5, atol=1e-6)


def test_the_blocked_kernel_works_in_place() -> None:
    x = np.random.default_rng(0).normal(0, 4, BLOCK + 5)
    expected = formula(x, 6.0)
    assert np.allclose(run(BlockedKernel(), problem("float64"), x, x), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_other_types_are_refused_with_a_reason(kernel: Kernel) -> None:
    support = kernel.supports(problem("float16"))
    assert not support.ok
    assert "not in float16" in support.why


class Builder:
    """Records what a mapping adds."""

    def add(self, kind: str, inputs: Any, attrs: Any) -> Any:
        return [(kind, list(inputs), attrs)]


@pytest.mark.parametrize(("attrs", "beta"), [({}, 6.0), ({"beta": 4}, 4.0)])
def test_mapping(attrs: dict[str, Any], beta: float) -> None:
    node = SourceNode("onnx", "acme", "Swish6", "node", 1, attrs, (True,))
    assert swish6(Builder(), node, ["x"]) == [("acme.Swish6", ["x"], {"beta": beta})]  # type: ignore[arg-type, comparison-overlap, list-item]
