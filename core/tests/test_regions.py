"""Problems are the identity of work: equal whenever a kernel could not tell them apart, different otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from tenonrt.builder.regions import MAX_CONSTANT_ELEMENTS, PosedProblem, make_region, pose, problem_key
from tenonrt.contracts import Problem, TensorType, symbol
from tenonrt.graph.attributes import restore_attrs
from tenonrt.graph.network import Network


def posed(net: Network, layers: Sequence[Any] | None = None, threads: int = 1) -> PosedProblem:
    return pose(make_region(net.graph, net.layers if layers is None else layers), "cpu", threads)


def block(
    prefix: str = "", *, seed: int = 0, size: int = 8, function: str = "relu", batch: Any = 2, offset: float = 1.0
) -> Network:
    """Convolution, activation, and a sum with a small constant."""
    net = Network(f"{prefix}network")
    x = net.add_input(f"{prefix}x", (batch, 4, size, size))
    weights = np.random.default_rng(seed).standard_normal((6, 4, 3, 3)).astype(np.float32)
    y = net.add_convolution(x, weights, name=f"{prefix}conv")
    y = net.add_activation(y, function=function, name=f"{prefix}act")
    y = net.add_elementwise(y, np.full((1, 6, 1, 1), offset, np.float32), operation="sum", name=f"{prefix}add")
    net.mark_output(y, f"{prefix}y")
    return net


def test_names_and_large_weights_are_no_part_of_a_problem() -> None:
    first, second = posed(block()), posed(block("other/", seed=1))
    assert first.problem == second.problem
    assert first.key == second.key
    assert "conv" not in msgspec.json.encode(first.problem).decode().replace('"Convolution"', "")


DIFFERENCES: list[dict[str, Any]] = [
    {"size": 9}, {"function": "sigmoid"}, {"batch": 3}, {"offset": 2.0}, {"offset": float("nan")},
    {"batch": symbol("n", 1, 4)}, {"batch": symbol("n", 1, 5)},
]  # fmt: skip


def test_what_a_kernel_can_tell_apart_has_another_key() -> None:
    keys = [posed(block()).key, posed(block(), threads=2).key, *(posed(block(**change)).key for change in DIFFERENCES)]
    assert len(set(keys)) == len(keys)


def test_a_key_is_the_same_in_every_process() -> None:
    import subprocess
    import sys

    script = "import test_regions as t; print(t.posed(t.block('elsewhere', seed=5)).key)"
    environment = {"PYTHONPATH": ":".join([__file__.rpartition("/")[0], *sys.path]), "PYTHONHASHSEED": "7"}
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert found.stdout.strip() == posed(block()).key, found.stderr


@pytest.mark.parametrize("build", [block, lambda: block(batch=symbol("n", 1, 6)), lambda: block(offset=float("inf"))])
def test_a_problem_survives_msgpack(build: Any) -> None:
    net = build()
    problem = posed(net).problem
    decoded = restore_attrs(msgspec.msgpack.decode(msgspec.msgpack.encode(problem), type=Problem), net.registry)
    assert decoded == problem
    assert problem_key(decoded) == problem_key(problem)
    assert decoded.layer.attrs == net.layers[0].attrs


def test_symbols_are_renamed_in_order_of_appearance() -> None:
    def make(first: str, second: str) -> PosedProblem:
        net = Network()
        a, b = net.add_input("a", (symbol(first, 1, 8), 3)), net.add_input("b", (3, symbol(second, 1, 8)))
        net.mark_output(net.add_matrix_multiply(a, b), "y")
        return posed(net)

    one, two = make("n", "m"), make("alpha", "zeta")
    assert one.problem == two.problem
    assert [s.name for s in one.problem.symbols] == ["s0", "s1"]
    assert one.symbols == ("n", "m")
    assert two.symbols == ("alpha", "zeta")
    same = make("n", "n")
    assert [s.name for s in same.problem.symbols] == ["s0"]
    assert same.key != one.key


def test_which_inputs_are_the_same_tensor_matters() -> None:
    def total(same: bool) -> PosedProblem:
        net = Network()
        a, b = net.add_input("a", (2, 3)), net.add_input("b", (2, 3))
        net.mark_output(net.add_elementwise(a, a if same else b, operation="prod"), "y")
        return posed(net)

    assert total(True).problem.layer.inputs == (0, 0)
    assert total(False).problem.layer.inputs == (0, 1)
    assert total(True).key != total(False).key


def test_constants_enter_by_value_up_to_a_size() -> None:
    def scaled(count: int, value: float) -> PosedProblem:
        net = Network()
        x = net.add_input("x", (2, count))
        net.mark_output(net.add_elementwise(x, np.full(count, value, np.float32), operation="prod"), "y")
        return posed(net)

    small, large = MAX_CONSTANT_ELEMENTS, MAX_CONSTANT_ELEMENTS + 1
    assert scaled(small, 1.0).key != scaled(small, 2.0).key
    assert scaled(large, 1.0).key == scaled(large, 2.0).key
    assert scaled(small, 1.5).problem.inputs[1].value == (1.5,) * small


def test_roles_and_absent_inputs() -> None:
    net = Network()
    x = net.add_input("x", (2, 4, 5, 5))
    shape = net.input("shape", TensorType((2,), "int64"), "host")
    y = net.add_convolution(x, np.zeros((4, 4, 1, 1), np.float32))
    net.mark_output(y, "y")
    net.mark_output(net.add_reshape(x, np.array([2, 100])), "flat")
    convolution, reshape = net.layers
    problem = posed(net, [convolution]).problem
    assert [given.role for given in problem.inputs] == ["activation", "constant"]
    assert problem.layer.inputs == (0, 1, -1)
    assert problem.activations == (0,)
    assert problem.constants == (1,)
    assert posed(net, [reshape]).problem.inputs[1].value == (2, 100)
    assert shape.info.place == "host"


def diamond() -> tuple[Network, dict[str, Any]]:
    """a feeds b and c, which d joins; b is also a network output."""
    net = Network()
    x = net.add_input("x", (2, 3))
    a = net.add_activation(x, function="relu", name="a")
    b = net.add_activation(a, function="sigmoid", name="b")
    c = net.add_activation(a, function="tanh", name="c")
    d = net.add_elementwise(b, c, operation="sum", name="d")
    net.mark_output(d, "y")
    net.mark_output(b, "z")
    return net, {layer.name: layer for layer in net.layers}


def test_what_crosses_the_border_of_a_region() -> None:
    net, by_name = diamond()
    region = make_region(net.graph, [by_name["d"], by_name["b"], by_name["c"]])
    assert region.name == "b + c + d"
    assert [t.name for t in region.inputs] == ["a"]
    assert [t.name for t in region.outputs] == ["b", "d"]
    assert [t.name for t in make_region(net.graph, [by_name["a"]]).outputs] == ["a"]


@pytest.mark.parametrize("names", ["ad", "abd", "acd"])
def test_a_region_that_a_path_leaves_and_enters_again_is_refused(names: str) -> None:
    net, by_name = diamond()
    with pytest.raises(ValueError, match="not convex"):
        make_region(net.graph, [by_name[name] for name in names])


@pytest.mark.parametrize("names", ["a", "ab", "abc", "bc", "bd", "abcd"])
def test_convex_regions_are_taken(names: str) -> None:
    net, by_name = diamond()
    assert len(make_region(net.graph, [by_name[name] for name in names]).layers) == len(names)


def test_a_layer_of_another_graph_is_refused() -> None:
    net, by_name = diamond()
    _, others = diamond()
    with pytest.raises(ValueError, match="not in the graph"):
        make_region(net.graph, [by_name["a"], others["b"]])
