"""Whole networks: a GraphDef, and the UFF file and ONNX models made of it, compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
import tf_networks
from tenonrt import Registry
from tenonrt.graph.passes import run_passes
from tf_cases import softmax

onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
Array = np.ndarray[Any, Any]
NETWORKS = {"lenet": ((2, 28, 28, 1), 1.0), "mobilenet": ((2, 64, 64, 3), 128.0), "residual": ((2, 32, 32, 3), 1.0)}


@pytest.fixture(scope="module", params=NETWORKS)
def made(request: pytest.FixtureRequest, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The files, and an input."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    shape, scale = NETWORKS[name]
    graph, uff = folder / "graph.pb", folder / "net.uff"
    graph.write_bytes(getattr(tf_networks, name)().encode())
    tenonrt.convert(graph, uff, registry=registry)
    for source in (graph, uff):
        tenonrt.convert(source, source.with_suffix(f"{source.suffix}.onnx"), registry=registry)
    return name, folder, (np.random.default_rng(0).standard_normal(shape) * scale).astype(np.float32)


def test_all_ways_agree(made: Any, registry: Registry, run: Any) -> None:
    _, folder, x = made
    found = {}
    for file in ("graph.pb", "net.uff"):
        network = tenonrt.parse(folder / file, registry=registry)
        (result,) = run(network, **{network.inputs[0].name: x}).values()
        found[file] = result
    for file in ("graph.pb.onnx", "net.uff.onnx"):
        onnx.checker.check_model(onnx.load(folder / file), full_check=True)
        session = ort.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        (found[file],) = session.run(None, {session.get_inputs()[0].name: x})
    for file, result in found.items():
        assert result.shape == found["graph.pb"].shape
        np.testing.assert_allclose(result, found["graph.pb"], 1e-5, 1e-5, err_msg=file)


def test_names_are_those_of_the_graph(made: Any, registry: Registry) -> None:
    _, folder, _ = made
    networks = [tenonrt.parse(folder / file, registry=registry) for file in ("graph.pb", "net.uff", "net.uff.onnx")]
    assert len({(tuple(t.name for t in n.inputs), tuple(n.outputs)) for n in networks}) == 1


@pytest.mark.parametrize("file", ["graph.pb", "net.uff"])
def test_only_the_input_is_transposed(made: Any, file: str, registry: Registry) -> None:
    """And not even that where it has one channel."""
    _, folder, images = made
    network = tenonrt.parse(folder / file, registry=registry)
    before = sum(layer.kind == "Transpose" for layer in network.layers)
    run_passes(network.graph, registry)
    transposes = [layer for layer in network.layers if layer.kind == "Transpose"]
    assert before > 6
    assert len(transposes) == (images.shape[-1] > 1)
    above = network.graph.producer(transposes[0].inputs[0]) if transposes else None
    while above is not None and above.kind in ("Elementwise", "Padding"):  # what the graph does before it convolves
        above = network.graph.producer(above.inputs[0])
    assert above is None


def test_a_network_is_what_its_layers_say(registry: Registry, run: Any, tmp_path: Path) -> None:
    """LeNet, transcribed to NumPy in float64 from the file's own weights."""
    from tenonrt_parser_uff.tensorflow.schema import graph_def
    from tenonrt_parser_uff.tensorflow.values import tensor
    from tf_cases import conv, pool

    content = tf_networks.lenet().encode()
    (tmp_path / "graph.pb").write_bytes(content)
    file = graph_def().FromString(content)
    w = {n.name: tensor(n.attr["value"].tensor).astype(np.float64) for n in file.node if n.op == "Const"}
    x = np.random.default_rng(0).standard_normal((2, 28, 28, 1)).astype(np.float32)
    y: Array = x
    for name in ("conv1", "conv2"):
        y = np.maximum(conv(y, w[f"{name}/weights"]) + w[f"{name}/bias"], 0)
        y = pool(y, np.max, 2, 2, "VALID")
    y = np.tanh(y.reshape(2, -1) @ w["fc1/kernel"] + w["fc1/bias"])
    y = softmax(y @ w["fc2/kernel"] + w["fc2/bias"])
    found = run(tenonrt.parse(tmp_path / "graph.pb", registry=registry), image=x)["prob"]
    np.testing.assert_allclose(found, y, 1e-5, 1e-5)


def test_opencv_reads_the_same(registry: Registry, run: Any, tmp_path: Path) -> None:
    """An importer of frozen graphs that is not ours."""
    cv2 = pytest.importorskip("cv2")
    content = tf_networks.mobilenet().encode()
    (tmp_path / "graph.pb").write_bytes(content)
    x = (np.random.default_rng(0).standard_normal((1, 64, 64, 3)) * 128).astype(np.float32)
    net = cv2.dnn.readNetFromTensorflow(np.frombuffer(content, np.uint8))
    net.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    (found,) = run(tenonrt.parse(tmp_path / "graph.pb", registry=registry), input=x).values()
    np.testing.assert_allclose(found, net.forward(), 1e-5, 1e-5)
