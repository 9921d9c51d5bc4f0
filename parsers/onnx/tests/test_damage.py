"""Damaged files are parsed or refused; nothing else may happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_recording_builder import RecordingBuilder
from tenonrt.contracts import ParseError
from tenonrt_parser_onnx.parser import OnnxParser


def sample() -> bytes:
    """Convolution, shape arithmetic, a function, a branch, typed data, strings: a little of everything."""
    branch = helper.make_graph(
        [helper.make_node("Relu", ["c"], ["z"], "b")], "branch", [], [onnx.ValueInfoProto(name="z")]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Half", ["a"], ["b"], "call", domain="lib", by=2.0),
        helper.make_node("Clip", ["b", "", "six"], ["c"], "clip"),
        helper.make_node("If", ["cond"], ["d"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("Reshape", ["d", "shape"], ["e"], "reshape"),
        helper.make_node("Softmax", ["e"], ["f"], "softmax", axis=1),
        helper.make_node("ReduceMean", ["f", "axes"], ["y"], "mean", keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", 1, ["n", 2, 8, 8]), helper.make_tensor_value_info("cond", 9, [])],
        [helper.make_tensor_value_info("y", 1, None)],
        [
            numpy_helper.from_array(np.ones((4, 2, 3, 3), np.float32), "w"),
            helper.make_tensor("six", TensorProto.FLOAT, [], [6.0]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [1, -1]),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    scale = helper.make_node("Constant", [], ["s"])
    scale.attribute.append(onnx.AttributeProto(name="value_float", ref_attr_name="by", type=onnx.AttributeProto.FLOAT))
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("lib", 1)]
    half = helper.make_function(
        "lib", "Half", ["p"], ["q"], [scale, helper.make_node("Div", ["p", "s"], ["q"])], imports, ["by"]
    )
    return helper.make_model(graph, opset_imports=imports, functions=[half]).SerializeToString()


SAMPLE = sample()


def outcome(folder: Path, data: bytes) -> str:
    path = folder / "model.onnx"
    path.write_bytes(data)
    builder = RecordingBuilder()
    try:
        OnnxParser().parse(path, builder)
    except ParseError as error:
        return "refused" if str(error).startswith(str(path)) else "refused without the file's name"
    held = sum(t.constant.nbytes for t in builder.constants if t.constant is not None)
    assert held <= 100 * len(data)
    return "parsed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("damage")
    return path


def test_the_sample_itself(folder):
    assert outcome(folder, SAMPLE) == "parsed"


def test_every_truncation(folder):
    refused = sum(outcome(folder, SAMPLE[:length]) == "refused" for length in range(0, len(SAMPLE), 3))
    assert refused > len(SAMPLE) / 3 * 0.9


quick = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(st.tuples(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes(folder, changes):
    data = bytearray(SAMPLE)
    for position, byte in changes:
        data[position] = byte
    assert outcome(folder, bytes(data)) in ("parsed", "refused")


@quick
@given(st.integers(0, len(SAMPLE)), st.integers(0, 40), st.binary(max_size=20))
def test_replaced_pieces(folder, start, length, piece):
    assert outcome(folder, SAMPLE[:start] + piece + SAMPLE[start + length :]) in ("parsed", "refused")


@quick
@given(st.binary(max_size=200))
def test_random_bytes(folder, data):
    assert outcome(folder, data) in ("parsed", "refused")
