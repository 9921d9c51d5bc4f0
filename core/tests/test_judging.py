"""How an output is judged against the float64 reference."""

from __future__ import annotations

import numpy as np
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.sampling import Judgement, judge, problem_tolerance
from tenonrt.contracts import Tolerance
from tenonrt.graph.network import Network
from tenonrt.plugins.registry import Registry


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


def test_results_below_the_smallest_normal_number_may_be_zero() -> None:
    expected = np.array([3e-39, -2e-45])
    assert judge(np.zeros(2, np.float32), expected, Tolerance(1e-5, 1e-5)) == Judgement(True, 0.0)
    assert not judge(np.zeros(2, np.float32), expected * 1e4, Tolerance(1e-5, 1e-5)).ok
    assert not judge(np.zeros(2, np.float64), expected, Tolerance(1e-5, 1e-5)).ok
