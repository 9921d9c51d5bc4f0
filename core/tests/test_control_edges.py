"""Graphs that layers own: names, symbols and shapes of inner graphs must not meet those of the outer one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import TensorType, symbol
from tenonrt.graph.network import Network

LEVELS = (0, 3)


def positives(net: Any, x: Any) -> Any:
    """The number of columns is that of the non-zero elements: known only while running."""
    return net.add("NonZero", [net.add("Activation", [x], {"function": "relu"})[0]])[0]


@pytest.mark.parametrize("level", LEVELS)
def test_unknown_sizes_of_the_same_layer_names_inside_and_outside(level: int) -> None:
    net = Network()
    x, y = net.add_input("x", (6,)), net.add_input("y", (6,))
    condition = net.input("condition", TensorType((), "bool"), "host")
    net.mark_output(positives(net, x), "outer")
    then, other = net.subgraph("then"), net.subgraph("else")
    then.output(positives(then, y), "found")
    other.output(positives(other, x), "found")
    net.mark_output(net.add("If", [condition], graphs=[then, other])[0], "inner")
    context = tenonrt.compile(net, optimization_level=level).create_context()
    a, b = np.array([1, -1, 2, -2, 3, 0], np.float32), np.array([-1, -1, -1, 1, -1, -1], np.float32)
    for holds in (True, False, True):
        found = context.execute({"x": a, "y": b, "condition": np.array(holds)})
        np.testing.assert_array_equal(found["outer"], [[0, 2, 4]])
        np.testing.assert_array_equal(found["inner"], [[3]] if holds else [[0, 2, 4]])


@pytest.mark.parametrize("level", LEVELS)
def test_branches_of_different_symbolic_shapes_give_constants_and_captured_tensors(level: int) -> None:
    net = Network()
    x, y = net.add_input("x", (symbol("n", 1, 9), 2)), net.add_input("y", (symbol("m", 1, 9), 2))
    condition = net.input("condition", TensorType((), "bool"), "host")
    then, other = net.subgraph("then"), net.subgraph("else")
    then.output(x, "a")
    then.output(then.constant(np.float32(5)), "b")
    other.output(other.add("Activation", [y], {"function": "relu"})[0], "a")
    other.output(other.constant(np.array(6, np.float32)), "b")
    a, b = net.add("If", [condition], graphs=[then, other])
    net.mark_output(net.add_activation(a, function="relu"), "a")
    net.mark_output(b, "b")
    context = tenonrt.compile(net, optimization_level=level).create_context()
    one, two = np.ones((3, 2), np.float32), np.full((5, 2), 2, np.float32)
    for holds in (True, False, True):
        found = context.execute({"x": one, "y": two, "condition": np.array(holds)})
        np.testing.assert_array_equal(found["a"], one if holds else two)
        assert found["b"] == (5 if holds else 6)


@pytest.mark.parametrize("level", LEVELS)
def test_a_state_that_grows(level: int) -> None:
    """The body takes (j,) and returns (j + 2,): its symbol has another value in every iteration."""
    net = Network()
    x = net.add_input("x", (symbol("k", 1, 99),))
    trips = net.input("trips", TensorType((), "int64"), "host")
    body = net.subgraph("body")
    body.input("iteration", TensorType((), "int64"), "host")
    again = body.input("condition", TensorType((), "bool"), "host")
    state = body.input("state", TensorType((symbol("j", 1, 99),)))
    grown = body.add("Concatenation", [state, body.constant(np.zeros(2, np.float32))], {"axis": 0})[0]
    body.output(again, "again")
    body.output(body.add("Elementwise", [grown, body.constant(np.float32(1))], {"operation": "sum"})[0], "state")
    net.mark_output(net.add("Loop", [trips, None, x], graphs=[body])[0], "y")
    context = tenonrt.compile(net, optimization_level=level).create_context()
    for n, times in ((3, 4), (2, 0), (2, 3)):
        expected = np.ones(n, np.float32)
        for _ in range(times):
            expected = np.concatenate([expected, np.zeros(2, np.float32)]) + 1
        found = context.execute({"x": np.ones(n, np.float32), "trips": np.array(times, np.int64)})["y"]
        np.testing.assert_array_equal(found, expected)


def test_regions_of_equal_names_inside_and_outside_keep_their_own_choice() -> None:
    net = Network()
    x = net.add_input("x", (4,))
    condition = net.input("condition", TensorType((), "bool"), "host")
    graphs = [net.subgraph("then"), net.subgraph("else")]
    for graph, function in zip(graphs, ("relu", "tanh"), strict=True):
        graph.output(graph.add("Activation", [x], {"function": function})[0], "a")
    chosen = net.add("If", [condition], graphs=graphs)[0]
    net.mark_output(net.add_activation(chosen, function="sigmoid"), "y")
    engine = tenonrt.compile(net)
    assert len([r for r in engine.report.regions if len(r.layers) == 1]) == 3
    assert len({step.name for step in engine.report.steps}) == 3


def test_the_profiler_sees_every_step() -> None:
    net = Network()
    x = net.add_input("x", (6,))
    condition = net.input("condition", TensorType((), "bool"), "host")
    then, other = net.subgraph("then"), net.subgraph("else")
    then.output(then.add("Activation", [x], {"function": "relu"})[0], "a")
    other.output(other.add("Activation", [x], {"function": "tanh"})[0], "a")
    chosen = net.add("If", [condition], graphs=[then, other], name="choice")[0]
    net.mark_output(net.add_nonzero(chosen, name="where") if hasattr(net, "add_nonzero") else
                    net.add("NonZero", [chosen], name="where")[0], "y")  # fmt: skip
    engine = tenonrt.compile(net, optimization_level=0)
    context = engine.create_context()
    seen: dict[str, float] = {}
    context.profiler = lambda name, seconds: seen.update({name: seconds})
    context.execute({"x": np.ones(6, np.float32), "condition": np.array(True)})
    assert set(seen) == {step.name for step in engine.plan.program.steps}
    assert all(seconds > 0 for seconds in seen.values())
