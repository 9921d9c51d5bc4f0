"""Graphs in graphs in graphs: what the innermost captures passes through every level between, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tenonrt
from onnx import helper


def nested(depth: int) -> onnx.ModelProto:
    """``if cond`` within itself; the innermost branch reads x and w twice each, the others count their level."""
    nodes = [helper.make_node("Mul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "x"], ["z0"])]
    branch = helper.make_graph(nodes, "b0", [], [onnx.ValueInfoProto(name="z0")])
    for level in range(1, depth):
        other = helper.make_graph(
            [helper.make_node("Sub", ["w", "x"], [f"e{level}"])], "other", [], [onnx.ValueInfoProto(name=f"e{level}")]
        )
        choice = helper.make_node("If", ["cond"], [f"c{level}"], then_branch=branch, else_branch=other)
        more = helper.make_node("Add", [f"c{level}", "w"], [f"z{level}"])
        branch = helper.make_graph([choice, more], f"b{level}", [], [onnx.ValueInfoProto(name=f"z{level}")])
    other = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "other", [], [onnx.ValueInfoProto(name="n")])
    graph = helper.make_graph(
        [helper.make_node("If", ["cond"], ["y"], then_branch=branch, else_branch=other)],
        "nested",
        [helper.make_tensor_value_info(name, 1, ["n"]) for name in ("x", "w")]
        + [helper.make_tensor_value_info("cond", 9, [])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_captures_of_every_depth(tmp_path: Any, depth: int) -> None:
    onnx.save(nested(depth), tmp_path / "model.onnx")
    context = tenonrt.ExecutionContext(tenonrt.compile(tmp_path / "model.onnx", optimization_level=0))
    x, w = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    found = context.execute({"x": x, "w": w, "cond": np.array(True)})["y"]
    np.testing.assert_array_equal(found, x * w + x + (depth - 1) * w)
    np.testing.assert_array_equal(context.execute({"x": x, "w": w, "cond": np.array(False)})["y"], -x)
