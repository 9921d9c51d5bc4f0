"""Layers keep names of their own through the passes: the selection, the report and replay go by them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import tenonrt
from onnx import helper, numpy_helper
from tenonrt import ExecutionContext, PluginSet, Registry


def test_layers_of_one_node_keep_different_names(tmp_path: Path) -> None:
    """Gemm with a computed addend is two layers of one node; a pass replaces the first."""
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["a", "b", "c"], ["y"], "gemm")],
        "graph",
        [helper.make_tensor_value_info("a", 1, [3, 6]), helper.make_tensor_value_info("c", 1, [3, 4])],
        [helper.make_tensor_value_info("y", 1, [3, 4])],
        [numpy_helper.from_array(np.ones((6, 4), np.float32), "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "model.onnx")
    registry = Registry(PluginSet(deny=("tenonrt-kernel-numpy:cpu/*",)))
    network = tenonrt.parse(tmp_path / "model.onnx", registry=registry)
    engine = tenonrt.compile(network, optimization_level=0)
    counts = Counter(layer.name for layer in network.layers)
    assert len(counts) == 2
    assert max(counts.values()) == 1
    inputs = {"a": np.ones((3, 6), np.float32), "c": np.ones((3, 4), np.float32)}
    np.testing.assert_array_equal(ExecutionContext(engine).execute(inputs)["y"], np.full((3, 4), 7, np.float32))
