"""Defining networks by hand: the words, the refusals, names, and tensors that subgraphs capture."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import TensorType, symbol
from tenonrt.errors import GraphError
from tenonrt.graph.network import Network, snake_case
from tenonrt.graph.verification import verify
from tenonrt.plugins.registry import LAYERS, current_registry


def image() -> tuple[Network, Any]:
    net = Network()
    return net, net.add_input("x", (1, 3, 8, 8))


def test_every_installed_kind_has_a_method() -> None:
    net = Network()
    for kind in current_registry().names(LAYERS):
        assert callable(getattr(net, f"add_{snake_case(kind)}"))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Convolution", "convolution"), ("MatrixMultiply", "matrix_multiply"), ("LRN", "lrn"), ("TopK", "top_k"),
        ("acme.Swish6", "acme_swish6"), ("GatherND", "gather_nd"), ("LSTM", "lstm"), ("ScatterND", "scatter_nd"),
    ],
)  # fmt: skip
def test_method_names(kind: str, name: str) -> None:
    assert snake_case(kind) == name


def test_an_unknown_method_lists_the_kinds() -> None:
    net = Network()
    with pytest.raises(
        AttributeError, match=r"no installed layer plugin offers 'add_convolutoin'; there are .*'convolution'"
    ):
        net.add_convolutoin()
    with pytest.raises(AttributeError, match="a Network has no attribute 'compile'"):
        net.compile()


def test_a_misspelt_attribute_is_named_with_those_there_are() -> None:
    net, x = image()
    with pytest.raises(GraphError, match=r"layer 'act' \(Activation\).*`functoin`.*its attributes are function, alpha"):
        net.add_activation(x, functoin="relu", name="act")
    with pytest.raises(GraphError, match=r"'Activation' \(Activation\).*function"):
        net.add_activation(x, function=3)


def test_arity() -> None:
    net, x = image()
    with pytest.raises(GraphError, match=r"layer 'sum' \(Elementwise\) lacks its input 1"):
        net.add_elementwise(x, operation="sum", name="sum")
    with pytest.raises(GraphError, match=r"layer 'sum3' \(Elementwise\) takes 2 inputs .*, not 3"):
        net.add_elementwise(x, x, x, operation="sum", name="sum3")
    with pytest.raises(GraphError, match=r"lacks its input 0, 'input'"):
        net.add_activation(None, function="relu")
    assert len(net.graph) == 0


def test_what_a_layer_refuses_names_it_and_its_inputs() -> None:
    net, x = image()
    weights = np.zeros((4, 2, 3, 3), np.float32)
    with pytest.raises(GraphError, match=r"layer 'conv' \(Convolution\) with inputs \(float32\[1x3x8x8\]"):
        net.add_convolution(x, weights, name="conv")
    verify(net.graph)


def test_names_are_unique() -> None:
    net, x = image()
    names = [net.add_activation(x, function="relu", name=name).producer.name for name in ("a", "a", "a_2", "a")]
    assert len(set(names)) == 4
    assert names[0] == "a"
    unnamed = [net.add_activation(x, function="relu").producer.name for _ in range(2)]
    assert unnamed == ["Activation", "Activation_2"]
    for again in (lambda: net.add_input("x", (1,)), lambda: (net.mark_output(x, "y"), net.mark_output(x, "y"))):
        with pytest.raises(GraphError, match=r"two (inputs|outputs) named '[xy]'"):
            again()


def test_an_input_keeps_its_name_whatever_layers_are_called() -> None:
    """Bindings are what callers see: a layer of that name must not rename an input that comes later."""
    net, x = image()
    net.mark_output(net.add_activation(x, function="relu", name="mask"), "y")
    assert net.add_input("mask", (1,)).name == "mask"
    verify(net.graph)


def test_sources_are_the_origin_or_the_name() -> None:
    net, x = image()
    with net.origin("node7"):
        inner = net.add_activation(x, function="relu")
        with net.origin("node8"):
            deep = net.add_activation(inner, function="relu")
    plain = net.add_activation(deep, function="relu", name="plain")
    assert [t.producer.sources for t in (inner, deep, plain)] == [("node7",), ("node8",), ("plain",)]
    assert inner.producer.name == "node7"


def test_numbers_become_constants_of_the_expected_types() -> None:
    net = Network()
    assert net.add_constant([1, 2]).type == TensorType((2,), "int64")
    assert net.add_constant([0.5]).type == TensorType((1,), "float32")
    assert net.add_constant(np.float64(1)).type == TensorType((), "float64")
    constant = net.add_constant(np.ones(3, np.float32))
    assert constant.constant is not None
    with pytest.raises(ValueError, match="read-only"):
        constant.constant[0] = 2


def test_an_unknown_element_type_is_refused_at_the_input() -> None:
    with pytest.raises(ValueError, match="unknown element type 'float31'"):
        Network().add_input("x", (1,), "float31")


def conditional(net: Network, x: Any, flag: Any) -> Any:
    """One branch reads x twice, the other reads x and another tensor of the outer network."""
    other = net.add_activation(x, function="sigmoid", name="other")
    yes, no = net.subgraph("yes"), net.subgraph("no")
    yes.mark_output(yes.add_elementwise(x, x, operation="sum"), "y")
    no.mark_output(no.add_elementwise(other, x, operation="prod"), "y")
    (y,) = net.add("If", [flag], graphs=[yes, no])
    return y


def test_captured_tensors_are_inputs_of_the_layer_in_one_order() -> None:
    net = Network()
    x = net.add_input("x", (symbol("n", 1, 4), 3))
    flag = net.add_input("flag", (), "bool")
    y = conditional(net, x, flag)
    owner = y.producer
    assert [t.name for t in owner.inputs] == ["flag", "x", "other"]
    assert owner.captured == 2
    assert [t.name for t in owner.declared_inputs] == ["flag"]
    for graph in owner.graphs:
        assert [outer.name for outer, _ in graph.captures] == ["x", "other"]
        assert graph.inputs == [inner for _, inner in graph.captures]
        assert all(inner.type == outer.type for outer, inner in graph.captures)
        verify(graph)
    assert owner in x.readers
    net.mark_output(y)
    verify(net.graph)


def test_a_tensor_is_captured_through_every_level() -> None:
    net = Network()
    x, flag = net.add_input("x", (3,)), net.add_input("flag", (), "bool")
    outer = [net.subgraph("outer0"), net.subgraph("outer1")]
    for branch in outer:
        inner = [branch.subgraph("inner0"), branch.subgraph("inner1")]
        for leaf in inner:
            leaf.mark_output(leaf.add_activation(x, function="relu"), "y")
        branch.mark_output(branch.add("If", [flag], graphs=inner)[0], "y")
    (y,) = net.add("If", [flag], graphs=outer)
    net.mark_output(y)
    verify(net.graph)
    assert y.producer.captured == 2
    middle = y.producer.graphs[0].layers[0]
    assert middle.captured == 1
    assert re.match("captured/", middle.inputs[-1].name)
    assert middle.inputs[-1] in y.producer.graphs[0].inputs
