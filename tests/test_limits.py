"""What no machine can hold is refused where it is asked for, and what a build may allocate is bounded."""

from __future__ import annotations

import numpy as np
import pytest
import tenonrt
from tenonrt import BuildError, GraphError, Network
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
