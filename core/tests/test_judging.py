"""How an output is judged against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import Judgement, judge, problem_tolerance, rounding_steps
from tenonrt.contracts import Tolerance
from tenonrt.graph.network import Network
from tenonrt.plugins.registry import Registry
from tenonrt.types import numpy_dtype


def test_an_inexact_tactic_may_be_off_by_a_little_more() -> None:
    network = Network("test")
    image = network.add_input("x", (1, 1, 8, 8))
    y = network.add_convolution(image, np.ones((1, 1, 3, 3), np.float32))
    network.mark_output(y, "y")
    problem = pose(make_region(network.graph, network.graph.layers), "cpu", 1).problem
    layer_types = Registry().layer_type
    exact, inexact = (problem_tolerance(problem, layer_types, "float32", exact) for exact in (True, False))
    assert inexact.relative == exact.relative
    assert inexact.absolute == exact.absolute + 1e-4
    expected = np.array([1.0, 1e-3])
    output = np.array([1.0, 1.05e-3], np.float32)
    assert judge(output, expected, inexact).ok
    assert not judge(output, expected, exact).ok
    half = [problem_tolerance(problem, layer_types, "float16", exact) for exact in (True, False)]
    assert half[0] == half[1]


@pytest.mark.parametrize(("dtype", "length"), [("bfloat16", 4096), ("float16", 32768)])
def test_zeros_are_wrong_however_long_sums_are(dtype: str, length: int) -> None:
    """Tolerances grow with the length of sums and the number of layers, and were past the result itself."""
    network, rng = Network("test"), np.random.default_rng(0)
    weights = rng.standard_normal((8, length)).astype(np.float32)
    y = network.add_fully_connected(network.add_input("x", (4, length)), weights)
    y = network.add_elementwise(y, network.add_input("z", (4, 8)), operation="sum")
    network.mark_output(network.add_activation(y, function="relu"), "y")
    problem = pose(make_region(network.graph, network.graph.layers), "cpu", 1).problem
    allowed = problem_tolerance(problem, Registry().layer_type, dtype)
    x, z, narrow = rng.standard_normal((4, length)), rng.standard_normal((4, 8)), numpy_dtype(dtype)
    expected = np.maximum(x @ weights.T.astype(np.float64) + z, 0)
    rounded = [a.astype(narrow).astype(np.float64) for a in (x, weights, z)]
    found = np.maximum(rounded[0] @ rounded[1].T + rounded[2], 0).astype(narrow)
    assert judge(found.astype(np.float32), expected, allowed).ok
    assert not judge(np.zeros((4, 8), np.float32), expected, allowed).ok
    assert not judge((1.5 * expected).astype(np.float32), expected, allowed).ok


def test_results_below_the_smallest_normal_number_may_be_zero() -> None:
    expected = np.array([3e-39, -2e-45])
    assert judge(np.zeros(2, np.float32), expected, Tolerance(1e-5, 1e-5)) == Judgement(True, 0.0)
    assert not judge(np.zeros(2, np.float32), expected * 1e4, Tolerance(1e-5, 1e-5)).ok
    assert not judge(np.zeros(2, np.float64), expected, Tolerance(1e-5, 1e-5)).ok


@given(st.integers(0, 2**32 - 1), st.sampled_from(["float16", "float32"]), st.floats(0, 3), st.booleans())
def test_what_is_asked_first_changes_no_verdict(seed: int, dtype: str, factor: float, special: bool) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.standard_normal(50) * 10.0 ** rng.integers(-3, 4)
    if special:
        expected[rng.integers(50)] = rng.choice([np.nan, np.inf, 1e6])
    tolerance = Tolerance(1e-3, 1e-3)
    noise = factor * 2e-3 * np.abs(expected).max(initial=0.0, where=np.isfinite(expected)) * rng.uniform(-1, 1, 50)
    with np.errstate(over="ignore", invalid="ignore"):
        output = (expected + noise).astype(dtype)
        stored = expected.astype(dtype).astype(np.float64)
        reachable = np.where(np.isinf(stored), stored, expected)
        size = np.abs(reachable[np.isfinite(reachable)]).max()
        deviation = np.abs(output - reachable)
        same = (output == reachable) | (np.isnan(output) & np.isnan(reachable))
    right = np.where(np.isfinite(reachable), deviation <= 1e-3 * np.abs(reachable) + 1e-3 * size, same)
    found = judge(output, expected, tolerance)
    assert found.ok == bool(right.all())
    if found.ok:
        np.testing.assert_allclose(found.error, deviation[np.isfinite(reachable)].max() / size, rtol=1e-9)


@given(st.integers(0, 253), st.sampled_from([0, 1]), st.sampled_from(["float8_e4m3fn", "float8_e5m2"]))
def test_narrow_floats_may_be_neighbours_where_they_were_rounded(code: int, steps: int, name: str) -> None:
    """One step of the larger of two codes that follow each other; of what was only moved nothing."""
    kind = numpy_dtype(name)
    pair = np.array([code % 127 + code // 127 * 128, 0], np.uint8)
    pair[1] = pair[0] + 1
    expected, output = pair[:1].view(kind), pair[1:].view(kind)
    near, nothing = Tolerance(1e-6, 1e-6), Tolerance(0.0, 0.0)
    assert judge(expected, expected, nothing, steps=steps).ok
    assume(np.isfinite(output.astype(np.float64)).all())
    assert judge(output, expected, near, steps=steps).ok == bool(steps)


def test_narrow_floats_of_inexact_sums_are_as_far_off_as_the_sums() -> None:
    kind = numpy_dtype("float8_e4m3fn")
    expected, output = np.array([0.25, 256], kind), np.array([0.5, 256], kind)
    assert not judge(output, expected, Tolerance(0.0, 1e-6), steps=1).ok
    assert judge(output, expected, Tolerance(0.0, 1e-3), steps=1).ok
    assert not judge(np.array([np.nan, 256], kind), expected, Tolerance(0.0, 1.0), steps=1).ok
    assert judge(np.array([np.nan], kind), np.array([np.nan], kind), Tolerance(0.0, 0.0), steps=1).ok


@pytest.mark.parametrize("kind", ["Transpose", "Flatten"])
def test_what_was_rounded_may_be_a_step_off_where_it_was_moved_afterwards(kind: str) -> None:
    network = Network("moved")
    x = network.add_input("x", (2, 3))
    (stored,) = network.add("Quantize", [x, np.float32(0.5)], {"dtype": "int8"})
    (moved,) = network.add(kind, [stored])
    network.mark_output(moved, "y")
    problem = pose(make_region(network.graph, network.graph.layers), "cpu", 1).problem
    assert rounding_steps(problem, problem.outputs[0], Registry().layer_type) == 1
    alone = pose(make_region(network.graph, network.graph.layers[1:]), "cpu", 1).problem
    assert rounding_steps(alone, alone.outputs[0], Registry().layer_type) == 0
