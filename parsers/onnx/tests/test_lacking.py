"""What the installation lacks for a model is told all at once, through the real core."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import tenonrt
from onnx import helper
from tenonrt import PluginSet, Registry, UnsupportedError


def model(*, foreign: bool) -> onnx.ModelProto:
    """Layers before, after, between and inside of each other, a function, and an operator that nobody maps."""
    branch = helper.make_graph(
        [helper.make_node("Sigmoid", ["c"], ["z"], "gate")], "branch", [], [onnx.ValueInfoProto(name="z")]
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv1"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w"], ["b"], "conv2"),
        helper.make_node("MaxPool", ["b"], ["c"], "pool", kernel_shape=[1, 1]),
        helper.make_node("If", ["cond"], ["d"], "if", then_branch=branch, else_branch=branch),
        helper.make_node("Roi", ["d"], ["e"], "roi", domain="acme") if foreign else
        helper.make_node("Identity", ["d"], ["e"], "copy"),
        helper.make_node("Split", ["e"], ["s", "t"], "split", axis=1, num_outputs=2),
        helper.make_node("Twice", ["s"], ["u"], "twice", domain="lib"),
        helper.make_node("Concat", ["u", "t"], ["y"], "concat", axis=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", 1, ["n", 2, 8, 8]), helper.make_tensor_value_info("cond", 9, [])],
        [helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("lib", 3)]
    twice = helper.make_function("lib", "Twice", ["p"], ["q"], [helper.make_node("Mul", ["p", "p"], ["q"], "square")],
                                 imports)  # fmt: skip
    return helper.make_model(graph, opset_imports=imports, functions=[twice], ir_version=8)


def without(*distributions: str) -> Registry:
    """A registry that finds everything but these distributions, as if they were not installed."""
    installed = Registry()
    records = [r.entry for r in installed.records() if r.entry.distribution not in distributions]
    return Registry(entries=records)


def refusal(tmp_path, registry: Registry, *, foreign: bool = False) -> UnsupportedError:
    path = tmp_path / "model.onnx"
    onnx.save(model(foreign=foreign), path)
    with pytest.raises(UnsupportedError) as caught:
        tenonrt.parse(path, registry=registry)
    assert str(caught.value).startswith(str(path))
    return caught.value


def test_a_complete_installation_takes_the_model(tmp_path):
    onnx.save(model(foreign=False), tmp_path / "model.onnx")
    tenonrt.parse(tmp_path / "model.onnx")


def test_one_missing_distribution(tmp_path):
    error = refusal(tmp_path, without("tenonrt-layer-pooling"))
    assert error.operators == (":MaxPool",)
    assert "ai.onnx:MaxPool (opset 18): node 'pool' (MaxPool, #3)" in str(error)
    assert "install tenonrt-layer-pooling" in str(error)


def test_all_missing_distributions_at_once(tmp_path):
    families = ["convolution", "activation", "pooling", "control", "elementwise", "concatenation"]
    error = refusal(tmp_path, without(*[f"tenonrt-layer-{family}" for family in families]))
    assert error.operators == (":Concat", ":Conv", ":If", ":MaxPool", ":Mul", ":Relu", ":Sigmoid", ":Split")
    for family in families:
        assert f"install tenonrt-layer-{family}" in str(error)
    assert "node 'conv1' (Conv, #0), node 'conv2' (Conv, #2)" in str(error)
    assert "node 'gate' (Sigmoid, #0)" in str(error)
    assert "tenonrt.mappings" not in str(error)


def test_missing_layers_and_unmapped_operators_at_once(tmp_path):
    error = refusal(tmp_path, without("tenonrt-layer-convolution", "tenonrt-layer-concatenation"), foreign=True)
    assert error.operators == (":Concat", ":Conv", ":Split", "acme:Roi")
    assert "acme:Roi (opset not imported): node 'roi' (acme:Roi, #5)" in str(error)
    assert "register" in str(error)
    assert "'onnx:acme:Roi'" in str(error)
    assert "'onnx::Conv'" not in str(error)


def test_denied_layers(tmp_path):
    plugins = PluginSet(deny=("tenonrt-layer-activation", "tenonrt-layer-elementwise:Elementwise"))
    error = refusal(tmp_path, Registry(plugins))
    assert error.operators == (":Mul", ":Relu", ":Sigmoid")
    assert str(error).count("denied by the application's plugin set") == 3


def test_a_denied_mapping(tmp_path):
    error = refusal(tmp_path, Registry(PluginSet(deny=("tenonrt-parser-onnx:onnx::Relu", "tenonrt-layer-pooling"))))
    assert error.operators == (":MaxPool", ":Relu")
    assert "'onnx::Relu' of tenonrt.mappings is installed but not usable" in str(error)


def test_layers_of_the_parsers_own(tmp_path):
    """An output that no node makes is copied by a layer, which may be missing as well."""
    graph = helper.make_graph([], "graph", [helper.make_tensor_value_info("x", 1, [2])],
                              [helper.make_tensor_value_info("x", 1, [2])])  # fmt: skip
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, ir_version=8), path)
    with pytest.raises(UnsupportedError, match=r"an output of the model\n +.*install tenonrt-layer-shuffle"):
        tenonrt.parse(path, registry=without("tenonrt-layer-shuffle"))


def test_a_mapping_that_raises_names_itself_and_the_node(tmp_path, monkeypatch):
    """Whatever a mapping of another distribution raises: its author is told where, and no other mapping takes over."""

    def roi(builder, node, inputs):
        return node.attributes["size"]

    registry = Registry()
    found = registry.mapping
    monkeypatch.setattr(registry, "mapping", lambda key: roi if key == "onnx:acme:Roi" else found(key))
    onnx.save(model(foreign=True), tmp_path / "model.onnx")
    with pytest.raises(tenonrt.PluginError) as caught:
        tenonrt.parse(tmp_path / "model.onnx", registry=registry)
    assert str(caught.value).startswith(f"{tmp_path / 'model.onnx'}: node 'roi' (acme:Roi): its mapping")
    assert f"{__name__}.{roi.__qualname__}, raised AttributeError" in str(caught.value)
