"""Networks whose images may have any size: windows without padding do not fit into the least one."""

from __future__ import annotations

from typing import Any

import numpy as np
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.builder.sizes import with_elements
from tenonrt.types import TensorType

Array = np.ndarray[Any, Any]
N, H, W = (tenonrt.symbol(name, 1) for name in ("N", "H", "W"))


def test_convolutions_are_tried_at_sizes_that_they_fit_into() -> None:
    """Level 2 times them: a kernel of their own wins, not the references, which are all that no trial refuses."""
    network = tenonrt.Network("windows")
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal(shape).astype(np.float32) for shape in ((8, 3, 3, 3), (8, 8, 5, 5)))
    y = network.add_activation(network.add_convolution(network.add_input("x", (N, 3, H, W)), first), function="relu")
    y = network.add_pooling(y, function="max", window=(2, 2), stride=(2, 2))
    network.mark_output(network.add_convolution(y, second), "y")
    engine = tenonrt.compile(network, optimization_level=2, threads=1)
    assert not [step.kernel for step in engine.report.steps if step.kernel.endswith("*/*.numpy")]
    context = engine.create_context()
    for shape in ((1, 3, 16, 16), (2, 3, 21, 33)):
        x = rng.standard_normal(shape).astype(np.float32)
        expected = _windows(_pooled(np.maximum(_windows(x, first), 0)), second)
        np.testing.assert_allclose(context.execute({"x": x})["y"], expected, rtol=1e-4, atol=1e-3)


def _windows(x: Array, weights: Array) -> Array:
    """The convolution in float64."""
    parts = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), weights.shape[2:], (2, 3))
    return np.einsum("nchwij,kcij->nkhw", parts, weights.astype(np.float64), optimize=True)


def _pooled(x: Array) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::2, ::2].max((4, 5))


@settings(deadline=None)
@given(window=st.integers(1, 9), stride=st.integers(1, 40), least=st.integers(1, 3))
def test_sizes_leave_elements(window: int, stride: int, least: int) -> None:
    types = [TensorType((N, 3, H, W)), TensorType((N, 8, (H - window) // stride + 1, H - 2))]
    values = with_elements(types, dict.fromkeys("NHW", least))
    assert all(size >= 1 for type in types for size in type.concrete(values))
    assert values["N"] == values["W"] == least


def test_ranges_hold_and_what_cannot_have_elements_stays() -> None:
    small = tenonrt.symbol("S", 1, 5)
    assert with_elements([TensorType((small - 4,))], {"S": 1}) == {"S": 5}
    assert with_elements([TensorType((small - 5,))], {"S": 1}) == {"S": 1}
    assert with_elements([TensorType((3, 0))], {}) == {}
