from __future__ import annotations

import numpy as np
import pytest
import tenonrt
from tenonrt import Engine, ExecutionContext, ParseError, PluginSet, Registry

onnx = pytest.importorskip("onnx")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))


def engine(nodes, inputs, outputs, folder, imports=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid(domain, version) for domain, version in (("", 21), *imports)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), folder / "m.onnx")
    network = tenonrt.parse(folder / "m.onnx", registry=REGISTRY)
    tenonrt.compile(network, optimization_level=0).save(folder / "m.plan")
    return Engine.load(folder / "m.plan", registry=REGISTRY)


def tensor(name, *shape):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def test_a_plan_lists_the_pack_only_when_it_needs_it(tmp_path):
    scaled = [helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])]
    packed = engine(scaled, [tensor("x", 2, 3)], [tensor("y", 2, 3)], tmp_path, [("ai.onnx.ml", 3)])
    native = engine([helper.make_node("Neg", ["x"], ["y"])], [tensor("x", 2)], [tensor("y", 2)], tmp_path)
    needs = [{need.distribution for need in made.header.requires} for made in (packed, native)]
    assert [("tenonrt-layer-onnx-reference" in found) for found in needs] == [True, False]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(ExecutionContext(packed).execute({"x": x})["y"], (x - 1) * 2)


def test_sequences_go_in_and_out_as_lists(tmp_path):
    given = helper.make_tensor_sequence_value_info("s", FLOAT, [None])
    made = helper.make_tensor_sequence_value_info("t", FLOAT, [None])
    nodes = [helper.make_node("SequenceInsert", ["s", "x"], ["t"]), helper.make_node("SequenceLength", ["t"], ["n"])]
    count = helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [])
    context = ExecutionContext(engine(nodes, [given, tensor("x", 2)], [made, count], tmp_path))
    first, last = np.ones(3, np.float32), np.zeros(2, np.float32)
    for _ in range(2):  # what a sequence keeps must not be a buffer of the context
        results = context.execute({"s": [first], "x": last})
        last = last + 1
    assert results["n"] == 2
    np.testing.assert_array_equal(results["t"][0], first)
    np.testing.assert_array_equal(results["t"][1], [1, 1])


def test_a_sequence_whose_rank_nobody_tells_is_refused(tmp_path):
    nodes = [
        helper.make_node("SequenceEmpty", [], ["s"]),
        helper.make_node("SequenceAt", ["s", "i"], ["e"]),
        helper.make_node("Neg", ["e"], ["y"]),
    ]
    index = helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [])
    with pytest.raises(ParseError, match="rank of the float32 tensors is not known; declare"):
        engine(nodes, [index], [tensor("y", 2)], tmp_path)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "needs its attributes blocksize"),
        ({"blocksize": 2.0}, "'blocksize'"),
        ({"blocksize": 2, "mode": "CRD", "other": 1}, "has no attribute 'other'"),
    ],
)
def test_attributes_are_held_to_the_schema(attributes, message):
    from tenonrt.contracts import TensorInfo, TensorType
    from tenonrt_layer_onnx_reference.layer import OnnxReferenceAttributes, OnnxReferenceLayer
    from tenonrt_layer_onnx_reference.nodes import encode

    attrs = OnnxReferenceAttributes(":SpaceToDepth", 28, encode(":SpaceToDepth", attributes))
    with pytest.raises(ValueError, match=message):
        OnnxReferenceLayer().infer(attrs, [TensorInfo(TensorType((1, 1, 4, 4)))])
