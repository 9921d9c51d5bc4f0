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


def test_an_empty_list_in_place_of_a_number_is_refused():
    from tenonrt_layer_onnx_reference.nodes import encode

    with pytest.raises(ValueError, match="attribute 'group' is an empty list, expected int"):
        encode(":DeformConv", {"group": ()})


def beside_onnxruntime(kind, attributes, value_info, given, folder):
    """Outputs of a model of one ai.onnx.ml node, ours and onnxruntime's."""
    onnxruntime = pytest.importorskip("onnxruntime")
    node = helper.make_node(kind, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    made = engine([node], [value_info], [onnx.ValueInfoProto(name="y")], folder, [("ai.onnx.ml", 1)])
    model = onnx.load(folder / "m.onnx")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ExecutionContext(made).execute({"x": given})["y"], session.run(None, {"x": given})[0]


@pytest.mark.parametrize("labels", [{"classlabels_strings": ["a", "b", "c"]}, {"classlabels_int64s": [7, -1, 3]}])
@pytest.mark.parametrize("shape", [(4, 3), (3,)])
def test_scores_become_maps(labels, shape, tmp_path):
    x = np.random.default_rng(0).random(shape, np.float32)
    found, expected = beside_onnxruntime("ZipMap", labels, tensor("x", *shape), x, tmp_path)
    assert [sorted(row) for row in found] == [sorted(row) for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other)


def test_categories_become_numbers_and_back(tmp_path):
    attributes = {"cats_strings": ["cat", "dog"], "cats_int64s": [5, 9], "default_int64": -3, "default_string": "?"}
    words = helper.make_tensor_value_info("x", onnx.TensorProto.STRING, [2, 2])
    given = np.array([["dog", "cow"], ["cat", ""]], object)
    found, expected = beside_onnxruntime("CategoryMapper", attributes, words, given, tmp_path)
    np.testing.assert_array_equal(found, expected)
    numbers = helper.make_tensor_value_info("x", onnx.TensorProto.INT64, [3])
    found, expected = beside_onnxruntime("CategoryMapper", attributes, numbers, np.array([9, 5, 4]), tmp_path)
    assert found.tolist() == expected.tolist() == ["dog", "cat", "?"]


def mapped(value):
    """x of type map(int64, value)."""
    info = onnx.ValueInfoProto(name="x")
    info.type.map_type.key_type = onnx.TensorProto.INT64
    info.type.map_type.value_type.tensor_type.elem_type = value
    return info


@pytest.mark.parametrize(
    ("attributes", "value", "given"),
    [
        ({"cast_to": "TO_FLOAT"}, FLOAT, {3: 1.5, -1: 2.0}),
        ({"cast_to": "TO_INT64", "map_form": "SPARSE", "max_map": 4}, FLOAT, {2: 7.0, 0: 1.0}),
    ],
)
def test_maps_become_rows(attributes, value, given, tmp_path):
    found, expected = beside_onnxruntime("CastMap", attributes, mapped(value), given, tmp_path)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_strings_of_a_map_stay_strings(tmp_path):
    """onnxruntime takes no map of strings from Python."""
    node = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", cast_to="TO_STRING", map_form="SPARSE",
                            max_map=3)  # fmt: skip
    made = engine([node], [mapped(onnx.TensorProto.STRING)], [onnx.ValueInfoProto(name="y")], tmp_path,
                  [("ai.onnx.ml", 1)])  # fmt: skip
    assert ExecutionContext(made).execute({"x": {2: "z"}})["y"].tolist() == [["", "", "z"]]
    with pytest.raises(tenonrt.ExecutionError, match="one of the 3 columns"):
        ExecutionContext(made).execute({"x": {5: "z"}})


def test_strings_of_a_map_become_numbers_in_the_order_of_keys(tmp_path):
    node = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml")
    made = engine([node], [mapped(onnx.TensorProto.STRING)], [onnx.ValueInfoProto(name="y")], tmp_path,
                  [("ai.onnx.ml", 1)])  # fmt: skip
    assert ExecutionContext(made).execute({"x": {1: "2.5", 0: "-3"}})["y"].tolist() == [[-3.0, 2.5]]


def test_classes_are_drawn_by_their_probabilities(tmp_path):
    node = helper.make_node("Multinomial", ["x"], ["y"], sample_size=4000, dtype=7)
    made = engine([node], [tensor("x", 2, 3)], [onnx.ValueInfoProto(name="y")], tmp_path)
    x = np.log(np.array([[0.2, 0.5, 0.3], [1.0, 8.0, 1.0]], np.float32))
    first, again, other = (ExecutionContext(made, seed).execute({"x": x})["y"] for seed in (1, 1, 2))
    assert first.dtype == np.int64
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    shares = np.stack([(first == label).mean(1) for label in range(3)], 1)
    np.testing.assert_allclose(shares, [[0.2, 0.5, 0.3], [0.1, 0.8, 0.1]], atol=0.05)


@pytest.mark.parametrize(
    ("kind", "attributes", "message"),
    [
        ("ZipMap", {}, "needs classlabels_strings or"),
        ("ZipMap", {"classlabels_int64s": [1, 2]}, "has 2 labels for"),
        ("CategoryMapper", {"cats_strings": ["a"]}, "has 1 strings for 0 numbers"),
        ("CastMap", {}, "it must be one of .*map.int64"),
    ],
)
def test_what_does_not_go_together_is_refused(kind, attributes, message, tmp_path):
    node = helper.make_node(kind, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    dtype = onnx.TensorProto.STRING if kind == "CategoryMapper" else FLOAT
    given = helper.make_tensor_value_info("x", dtype, [2, 3])
    with pytest.raises(ParseError, match=message):
        engine([node], [given], [onnx.ValueInfoProto(name="y")], tmp_path, [("ai.onnx.ml", 1)])
