"""Networks for native kernels: chains of additions and relus, whose answers NumPy gives exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from tenonrt import Network, Registry, symbol


def chain(registry: Registry, steps: int, shape: tuple[int, ...]) -> Network:
    """x, then in turn ``+ w`` and relu."""
    network = Network("chain", registry)
    x = network.add_input("x", shape)
    for i in range(steps):
        if i % 2:
            x = network.add_activation(x, function="relu", name=f"relu_{i}")
        else:
            x = network.add_elementwise(x, addend(i, shape), operation="sum", name=f"add_{i}")
    network.mark_output(x, "y")
    return network


def addend(i: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The constant of step i, the same in every process."""
    return np.random.default_rng(i).standard_normal(shape, np.float32)


def expected(x: np.ndarray[Any, Any], steps: int) -> np.ndarray[Any, Any]:
    """What `chain` computes of x."""
    for i in range(steps):
        x = np.maximum(x, 0) if i % 2 else x + addend(i, x.shape)
    return x


def phases(registry: Registry) -> Network:
    """relu in two phases over one symbolic dimension."""
    network = Network("phases", registry)
    x = network.add_input("x", (symbol("n", 1, 1 << 20),))
    h = network.add_activation(x, function="relu", name="phases_1")
    network.mark_output(h, "y")
    return network
