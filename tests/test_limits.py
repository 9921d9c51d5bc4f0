"""What no machine can hold is refused where it is asked for, and what a build may allocate is bounded."""

from __future__ import annotations

import numpy as np
import pytest
import tenonrt
from tenonrt import BuildError, GraphError, Network
from tenonrt.graph.passes import constant_bytes, run_passes
from tenonrt.types import TensorType


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((2**24, 2**23), "more than 281474976710656 bytes"),
        ((2**62, 0), "more than"),
        ((1,) * 65, "65 dimensions"),
        ((2, -1), "negative"),
        ((tenonrt.symbol("n", lower=2**50),), "more than"),
    ],
    ids=["bytes", "empty", "rank", "negative", "symbol"],
)
def test_impossible_inputs(shape, why):
    with pytest.raises(GraphError, match=f"input 'x'.*{why}"):
        Network().input("x", TensorType(shape))


def test_impossible_results():
    network = Network()
    x = network.add_input("x", (2**20, 1))
    with pytest.raises(GraphError, match=r"layer 'huge' \(Expand\).*which no machine can hold"):
        network.add("Expand", [x, np.array([2**20, 2**40])], name="huge")


def test_tensors_that_together_are_too_many():
    network = Network()
    x = network.add_input("x", (2**45,))
    parts = [network.add("Activation", [x], {"function": "relu"}) for _ in range(2**13 + 1)]
    for (tensor,) in parts:
        network.mark_output(tensor)
    with pytest.raises(BuildError, match="more than can be addressed"):
        tenonrt.compile(network, optimization_level=0)


def grown_bytes(network: Network) -> int:
    """Bytes of the constants in a network after the passes, its own outputs included."""
    run_passes(network.graph, network.registry)
    constants = [t.constant for t in network.graph.outputs.values() if t.constant is not None]
    return constant_bytes(network.graph) + sum(array.nbytes for array in constants)


def test_folding_along_a_chain_is_bounded():
    network = Network()
    x, grown = network.add_input("x", (1,)), network.add_constant(np.ones(1000, np.float32))
    for _ in range(11):
        (grown,) = network.add("Concatenation", [grown] * 4, {"axis": 0})
    network.mark_output(network.add("Elementwise", [x, grown], {"operation": "sum"})[0])
    assert grown_bytes(network) <= 1 << 25


def test_folding_side_by_side_is_bounded():
    """A mebibyte from a few bytes is nothing; a hundred of them are."""
    network = Network()
    x = network.add_input("x", (1,))
    for value in range(150):
        (filled,) = network.add("Fill", [np.array([1 << 18])], {"value": value, "dtype": "float32"})
        network.mark_output(network.add("Elementwise", [x, filled], {"operation": "sum"})[0])
    assert 1 << 24 < grown_bytes(network) <= (1 << 26) + (1 << 20)


def test_folding_what_is_large_already_is_allowed():
    network = Network()
    x = network.add_input("x", (1, 2048))
    weights = network.add_constant(np.ones((9216, 2048), np.float32))  # 72 MiB
    (weights,) = network.add("Transpose", [weights], {"permutation": (1, 0)})
    (weights,) = network.add("Elementwise", [weights, np.float32(2)], {"operation": "prod"})
    network.mark_output(network.add("MatrixMultiply", [x, weights])[0])
    run_passes(network.graph, network.registry)
    assert [layer.kind for layer in network.layers] == ["FullyConnected"]


def test_windows_over_constants_are_not_folded():
    """The padded image of a window of 2^30 elements takes a multiple of what goes in and comes out."""
    network = Network()
    x = network.add_input("x", (1,))
    attrs = {"window": (1 << 30, 1), "function": "average", "pre_padding": (1 << 29, 0), "post_padding": (1 << 29, 0)}
    (pooled,) = network.add("Pooling", [np.ones((1, 1, 8, 8), np.float32)], attrs)
    network.mark_output(network.add("Elementwise", [x, pooled], {"operation": "sum"})[0])
    assert grown_bytes(network) < 1000


def test_a_trial_must_fit_the_machine_that_builds():
    network = Network()
    image = network.add_input("image", (1, 1, 50_000, 50_000))
    network.mark_output(network.add("Convolution", [image, np.ones((1, 1, 3, 3), np.float32)])[0])
    (region,) = tenonrt.compile(network, optimization_level=0).report.regions
    reasons = [candidate.why for candidate in region.candidates if "numpy_gemm" in candidate.kernel]
    assert reasons
    assert all("a trial of it would take 3999" in why for why in reasons)
