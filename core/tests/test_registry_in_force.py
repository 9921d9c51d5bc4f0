"""A network with a registry of its own is built and run with the plugins of that registry, whatever is current."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tenonrt
from tenonrt.contracts import Array, LayerType, Run, TensorInfo
from tenonrt.plugins.discovery import Entry, scan
from tenonrt.plugins.registry import LAYERS, Registry, current_registry


class Triple(LayerType):
    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        return [info for info in inputs if info is not None]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        return [a * 3 for a in arrays if a is not None]


class Source:
    def load(self) -> type[Triple]:
        return Triple


def test_layer_types_come_from_the_registry_of_the_network() -> None:
    entries = [entry for found in scan().values() for entry in found]
    registry = Registry(entries=[*entries, Entry(LAYERS, "test.Triple", "test", "dist-test", "1", Source())])
    assert current_registry() is not registry
    net = tenonrt.Network("triple", registry)
    net.mark_output(net.add_test_triple(net.add_input("x", (2, 3))), "y")
    engine = tenonrt.Builder(tenonrt.BuilderConfig(optimization_level=0)).build(net)
    outputs = engine.create_context().execute({"x": np.ones((2, 3), np.float32)})
    assert np.array_equal(outputs["y"], np.full((2, 3), 3, np.float32))
