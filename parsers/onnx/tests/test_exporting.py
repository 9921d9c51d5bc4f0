"""Networks written as ONNX models: checked by onnx, run by onnxruntime, compared with the layers' references."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tenonrt
from onnx import TensorProto, helper
from tenonrt import GraphError, Network, PluginSet, Registry, TenonError, UnsupportedError
from tenonrt.contracts import Case, TensorType, dtype_name, symbol
from tenonrt_parser_onnx.exporting.model import to_model
from tenonrt_parser_onnx.exporting.rules import RULES

ort.set_default_logger_severity(4)
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))
KINDS = sorted(set(RULES) & set(REGISTRY.names("tenonrt.layers")))
PLAIN = frozenset("float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string".split())

# What onnxruntime's kernels do not do, by kind and the words it says that with; the models are checked all the same.
DECLINED = {
    "GRU": "layout_ == 0", "LSTM": "layout_ == 0", "RNN": "layout_ == 0",
    "LRN": "size_ % 2 == 1|NumDimensions\\(\\) == 4",
    "OneHot": "OneHot\\(11\\)", "Padding": "PadImpl", "Quantize": "QuantizeLinear\\(",
    "Dequantize": "DequantizeLinear\\(",
    "GroupNormalization": "ReshapeHelper",  # of an empty batch
    "ReverseSequence": "batch_axis < 2", "Select": "Where\\(16\\)", "Fill": "ConstantOfShape\\(",
}  # fmt: skip
# Where it disagrees with onnx's definition, or the definition's own shape inference does.
WRONG = {
    "NonZero float32 ()", "NonZero int64 ()", "NonZero bool ()", "OneHot scalar", "GridSample cubic border",
    "Resize keep aspect", "Einsum ...ij,...jk->...ik", "Cast int64 to string",
}  # fmt: skip


def cases() -> Iterator[Any]:
    for kind in KINDS:
        for index, case in enumerate(REGISTRY.layer_type(kind).cases()):
            name = f"{kind} {case.name or index}"
            if name not in WRONG and kind != "OnnxReferenceRandom":
                yield pytest.param(kind, case, id=name)


def type_of(given: Any) -> TensorType | None:
    if given is None or isinstance(given, TensorType):
        return given
    array = np.asarray(given)
    return TensorType(array.shape, dtype_name(array.dtype))


def network_of(kind: str, case: Case) -> tuple[Network, dict[str, Any], list[Any]]:
    """One layer, what to feed it, and what its reference makes of that."""
    layer, network = REGISTRY.layer_type(kind), Network(registry=REGISTRY)
    drawn = layer.sample(case.attrs, [type_of(given) for given in case.inputs], np.random.default_rng(0))
    inputs, arrays, feeds = [], [], {}
    for index, (given, values) in enumerate(zip(case.inputs, drawn, strict=True)):
        if isinstance(given, TensorType):
            inputs.append(network.input(f"x{index}", given))
            arrays.append(values)
            feeds[f"x{index}"] = values
        else:
            arrays.append(None if given is None else np.asarray(given))
            inputs.append(None if given is None else network.constant(arrays[-1]))
    for index, tensor in enumerate(network.add(kind, inputs, case.attrs)):
        network.output(tensor, f"y{index}")
    return network, feeds, layer.reference(case.attrs, arrays, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "case"), list(cases()))
def test_layer(kind: str, case: Case) -> None:
    network, feeds, expected = network_of(kind, case)
    model = to_model(network.graph)
    onnx.checker.check_model(model, full_check=True)
    if any(node.domain == "tenonrt" for node in model.graph.node):
        assert kind == "Elementwise"
        return
    if not {t.type.dtype for t in (*network.inputs, *network.outputs.values())} <= PLAIN:
        return
    found = outcome(model, feeds)
    if isinstance(found, Exception):
        if kind not in DECLINED or re.search(DECLINED[kind], str(found)) is None:
            raise found
        return
    for result, wanted in zip(found, expected, strict=True):
        assert result.shape == wanted.shape
        if wanted.dtype == object:
            assert result.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(result.astype(np.float64), wanted.astype(np.float64), 1e-4, 1e-5)


def outcome(model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """What onnxruntime computes, or its error."""
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common class
        return error


def run(model: bytes, **feeds: Any) -> dict[str, Any]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def test_names_shapes_and_copies() -> None:
    """Outputs have the network's names, also where they are inputs, constants or one tensor twice."""
    network = Network("small", REGISTRY)
    x = network.add_input("x", (symbol("N"), 3))
    y = network.add_activation(x, function="relu", name="x")  # a layer named as the input
    for tensor, name in ((y, "y"), (y, "again"), (x, "same"), (network.add_constant(np.arange(2.0)), "fixed")):
        network.output(tensor, name)
    model = to_model(network.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["N", 3]
    values = np.array([[1, -1, 2]], np.float32)
    found = run(model.SerializeToString(), x=values)
    assert list(found) == ["y", "again", "same", "fixed"]
    np.testing.assert_array_equal(found["again"], np.maximum(values, 0))
    np.testing.assert_array_equal(found["same"], values)
    np.testing.assert_array_equal(found["fixed"], [0, 1])


def test_a_constant_that_is_read_twice_is_kept_once() -> None:
    network = Network(registry=REGISTRY)
    x, weights = network.add_input("x", (2, 3)), network.add_constant(np.ones((3, 3), np.float32), "weights")
    network.output(network.add_fully_connected(network.add_fully_connected(x, weights), weights), "y")
    assert [i.name for i in to_model(network.graph).graph.initializer] == ["weights"]


def test_kinds_that_are_not_standard() -> None:
    network = Network(registry=REGISTRY)
    features, image = network.add_input("features", (1, 2, 3, 3)), network.add_input("image", (1, 3, 30, 30))
    network.output(network.add_prior_box(features, image, boxes=((3.0, 4.0), (5.0, 5.0)), variances=(0.1,)), "y")
    model = to_model(network.graph)
    onnx.checker.check_model(model)
    (node,) = model.graph.node
    assert (node.domain, node.op_type) == ("tenonrt", "PriorBox")
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert attrs["boxes"] == b"[[3.0,4.0],[5.0,5.0]]"
    assert attrs["offset"] == 0.5


def control_model() -> onnx.ModelProto:
    """y = x + 1 while the sum is small, at most 5 times; z = 2 y if the first element is positive, else -y."""
    f, i, b = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "one"], ["next"]),
            helper.make_node("ReduceSum", ["next"], ["total"], keepdims=0),
            helper.make_node("Less", ["total", "limit"], ["again"]),
            helper.make_node("Identity", ["next"], ["seen"]),
        ],
        "body",
        [info("i", i, []), info("c", b, []), info("state", f, [2])],
        [info("again", b, []), info("next", f, [2]), info("seen", f, [2])],
    )
    then = helper.make_graph([helper.make_node("Add", ["y", "y"], ["t"])], "then", [], [info("t", f, [2])])
    other = helper.make_graph([helper.make_node("Neg", ["y"], ["e"])], "else", [], [info("e", f, [2])])
    nodes = [
        helper.make_node("Loop", ["five", "", "x"], ["y", "all"], body=body),
        helper.make_node("Gather", ["x", "zero"], ["head"]),
        helper.make_node("Greater", ["head", "nothing"], ["positive"]),
        helper.make_node("If", ["positive"], ["z"], then_branch=then, else_branch=other),
    ]
    constants = {"one": np.float32(1), "limit": np.float32(9), "five": np.int64(5), "zero": np.int64(0),
                 "nothing": np.float32(0)}  # fmt: skip
    made = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    outputs = [info("z", f, [2]), info("all", f, [None, 2])]
    graph = helper.make_graph(nodes, "control", [info("x", f, [2])], outputs, made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("x", [[0.5, 2.0], [-1.0, 3.0]])
def test_graphs_within_graphs(x: Sequence[float], tmp_path: Path) -> None:
    source, target = tmp_path / "control.onnx", tmp_path / "again.onnx"
    onnx.save(control_model(), source)
    tenonrt.convert(source, target, registry=REGISTRY)
    onnx.checker.check_model(onnx.load(target), full_check=True)
    values = np.array(x, np.float32)
    wanted, found = run(source.read_bytes(), x=values), run(target.read_bytes(), x=values)
    for name in ("z", "all"):
        np.testing.assert_allclose(found[name], wanted[name], 1e-6)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "control.onnx"
    onnx.save(control_model(), source)
    with pytest.raises(GraphError, match=r"writes \.xyz from control\.onnx \(onnx\); .* there are \.onnx"):
        tenonrt.convert(source, tmp_path / "net.xyz", registry=REGISTRY)
    with pytest.raises(GraphError, match="is the model itself"):
        tenonrt.convert(source, source, registry=REGISTRY)
    with pytest.raises(TenonError, match="cannot be written"):
        tenonrt.convert(source, tmp_path / "no" / "net.onnx", registry=REGISTRY)
    assert [file.name for file in tmp_path.iterdir()] == ["control.onnx"]


def test_what_onnx_cannot_say_is_listed() -> None:
    network = Network(registry=REGISTRY)
    x, w = network.add_input("x", (1, 2, symbol("H"), 4)), np.ones((2, 2, 3, 3), np.float32)
    network.output(network.add_deconvolution(x, w, output_shape=(9, 9)), "y")
    with pytest.raises(UnsupportedError, match=r"layers that ONNX cannot say:\n'Deconvolution' \(Deconvolution\)"):
        to_model(network.graph)
