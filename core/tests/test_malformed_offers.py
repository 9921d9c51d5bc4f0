"""What kernels say of their tactics and regions is checked before anything relies on it."""

from __future__ import annotations

import pytest
from tenonrt.builder.offers import malformed
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import LINEAR, NHWC, Format, Tactic, TensorType
from tenonrt.graph.network import Network


def network() -> Network:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (1, 2, 3, 4)), function="relu"), "y")
    return net


@pytest.mark.parametrize(
    ("tactics", "said"),
    [
        ([Tactic("a"), Tactic("a", workspace=64)], "one key"),
        ([Tactic(inputs=(NHWC, LINEAR))], "formats for 2 activations"),
        ([Tactic(outputs=(NHWC, LINEAR))], "2 outputs"),
        ([Tactic(inplace=((0, 1),))], "not there"),
        ([Tactic(reads_strided=(1,))], "not there"),
        ([Tactic(writes_strided=(-1,))], "not there"),
        ([Tactic(inputs=("NCHW",))], "'NCHW' where a Format"),  # type: ignore[arg-type]
        ([Tactic(outputs=(Format("NHWC"),))], "where a Format of axis numbers"),  # type: ignore[arg-type]
        ([Tactic(outputs=(Format(blocks=(("C", 16),)),))], "where a Format"),  # type: ignore[arg-type]
        ([Tactic("a", (NHWC,), (NHWC,), inplace=((0, 0),), reads_strided=(0,)), Tactic("b")], ""),
    ],
)
def test_tactics_must_fit_their_problem(tactics: list[Tactic], said: str) -> None:
    net = network()
    found = malformed(pose(make_region(net.graph, net.layers), "cpu", 1).problem, tactics)
    assert said in found
    assert bool(found) == bool(said)


def test_a_region_has_layers_that_kernels_may_compute() -> None:
    net = network()
    with pytest.raises(ValueError, match="no layers"):
        make_region(net.graph, [])
    condition = net.input("condition", TensorType((), "bool"), "host")
    graphs = [net.subgraph("then"), net.subgraph("else")]
    for graph in graphs:
        graph.output(graph.add("Activation", [net.outputs["y"]], {"function": "tanh"})[0], "z")
    net.mark_output(net.add("If", [condition], graphs=graphs, name="choice")[0], "z")
    with pytest.raises(ValueError, match="'choice' owns graphs"):
        make_region(net.graph, net.layers)
