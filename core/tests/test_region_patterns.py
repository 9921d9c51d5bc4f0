"""Regions that several kernels look for: what belongs to them, and where they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tenonrt import Network
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import SumTail, added_operand, attention_layers, only_reader

TAIL = SumTail(lambda attrs: attrs.function == "relu")
WEIGHTS = np.ones((4, 4, 1, 1), np.float32)
SHAPE = (1, 4, 3, 3)
Define = Callable[[Network, Any], Any]


def convolution(define: Define) -> Network:
    net = Network()
    y = net.add_convolution(net.add_input("x", SHAPE), WEIGHTS, name="conv")
    net.mark_output(define(net, y), "y")
    return net


def add(net: Network, y: Any, z: Any) -> Any:
    return net.add_elementwise(y, z, operation="sum", name="add")


def relu(net: Network, y: Any, name: str = "relu") -> Any:
    return net.add_activation(y, function="relu", name=name)


def shared(net: Network, y: Any) -> Any:
    net.mark_output(relu(net, y), "relu")
    return net.add_activation(y, function="tanh", name="tanh")


def dependent(net: Network, y: Any) -> Any:
    """The other operand is computed from the sum's own region."""
    inner = net.add_activation(y, function="tanh", name="tanh")
    return add(net, y, inner)


TAILS: dict[str, tuple[Define, list[str]]] = {
    "activation": (relu, ["conv relu"]),
    "another activation": (lambda net, y: net.add_activation(y, function="tanh"), ["conv"]),
    "two activations": (lambda net, y: relu(net, relu(net, y), "again"), ["conv relu"]),
    "sum": (lambda net, y: add(net, y, net.add_input("z", SHAPE)), ["conv", "conv add"]),
    "sum and activation": (lambda net, y: relu(net, add(net, net.add_input("z", SHAPE), y)), ["conv", "conv add relu"]),
    "activation and sum": (lambda net, y: add(net, relu(net, y), net.add_input("z", SHAPE)), ["conv relu"]),
    "sum that broadcasts": (lambda net, y: add(net, y, net.add_input("z", (1, 4, 1, 1))), ["conv"]),
    "sum with a constant": (lambda net, y: add(net, y, np.ones(SHAPE, np.float32)), ["conv"]),
    "sum with itself": (lambda net, y: add(net, y, y), ["conv"]),
    "difference": (lambda net, y: net.add_elementwise(y, net.add_input("z", SHAPE), operation="sub"), ["conv"]),
    "two readers": (shared, ["conv"]),
    "operand from inside": (dependent, ["conv"]),
    "output": (lambda net, y: y, ["conv"]),
}


@pytest.mark.parametrize("name", TAILS)
def test_where_tails_end(name: str) -> None:
    define, expected = TAILS[name]
    net = convolution(define)
    found = [" ".join(layer.name for layer in region) for region in TAIL.regions(net.graph, net.graph.layers[0])]
    assert found == expected
    for region in TAIL.regions(net.graph, net.graph.layers[0]):
        assert TAIL.refusal(pose(make_region(net.graph, region), "cpu", 1).problem) == ""


@pytest.mark.parametrize(
    ("define", "why"),
    [
        (TAILS["another activation"][0], "the activation tanh"),
        (TAILS["two activations"][0], "Activation + Activation follows it"),
        (TAILS["difference"][0], "a sub of something else than one computed tensor of its shape"),
        (TAILS["sum that broadcasts"][0], "a sum of something else than one computed tensor of its shape"),
        (TAILS["sum with a constant"][0], "a sum of something else than one computed tensor of its shape"),
    ],
)
def test_other_problems_are_refused_with_the_reason(define: Define, why: str) -> None:
    net = convolution(define)
    assert TAIL.refusal(pose(make_region(net.graph, net.graph.layers), "cpu", 1).problem) == why


def test_the_operand_that_is_added() -> None:
    net = convolution(TAILS["sum and activation"][0])
    problem = pose(make_region(net.graph, net.graph.layers), "cpu", 1).problem
    added = added_operand(problem)
    assert added in problem.activations
    assert added not in problem.layer.inputs
    assert added_operand(pose(make_region(net.graph, net.graph.layers[:1]), "cpu", 1).problem) is None


def attention(mask: bool = False, guard: bool = False, watched: bool = False, softmax: bool = True) -> Network:
    net = Network()
    moved = [net.add("Transpose", [net.add_input(n, (1, 5, 2, 4))], {"permutation": (0, 2, 1, 3)})[0] for n in "qkv"]
    q = net.add_elementwise(moved[0], np.float32(0.5), operation="prod")
    scores = net.add("MatrixMultiply", [q, moved[1]], {"transpose_b": True})[0]
    if mask:
        scores = net.add_elementwise(scores, net.add_input("mask", (5, 5)), operation="sum")
    shares = net.add_softmax(scores, axis=-1) if softmax else relu(net, scores)
    if watched:
        net.mark_output(shares, "shares")
    if guard:
        asked = net.add("Unary", [shares], {"operation": "is_nan"})[0]
        shares = net.add("Select", [asked, np.zeros((), np.float32), shares], {})[0]
    y = net.add("MatrixMultiply", [shares, moved[2]], {})[0]
    net.mark_output(net.add("Transpose", [y], {"permutation": (0, 2, 1, 3)})[0], "y")
    return net


def product(net: Network) -> Any:
    return next(layer for layer in net.graph.layers if layer.kind == "MatrixMultiply")


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("guard", [False, True])
def test_attention_with_what_moves_its_data(mask: bool, guard: bool) -> None:
    net = attention(mask, guard)
    found = attention_layers(net.graph, product(net), frozenset({"Elementwise"}))
    assert found is not None
    middle = ["Elementwise"] * mask + ["Softmax"] + ["Unary", "Select"] * guard
    assert [layer.kind for layer in found.core] == ["MatrixMultiply", *middle, "MatrixMultiply"]
    assert sorted(layer.kind for layer in found.before) == ["Elementwise", *["Transpose"] * 3]
    assert [layer.kind for layer in found.after] == ["Transpose"]
    for region in (found.core, (*found.before, *found.core), (*found.core, *found.after)):
        make_region(net.graph, region)  # raises where it is not convex


def test_what_is_no_attention() -> None:
    for net, between in (
        (attention(watched=True), {"Elementwise"}),
        (attention(mask=True), {"Activation"}),
        (attention(softmax=False), {"Activation"}),
    ):
        assert attention_layers(net.graph, product(net), frozenset(between)) is None


def test_a_reader_counts_once_and_an_output_has_none() -> None:
    net = convolution(TAILS["sum with itself"][0])
    conv, added = net.graph.layers
    assert only_reader(net.graph, conv.outputs[0]) is added
    assert only_reader(net.graph, added.outputs[0]) is None
