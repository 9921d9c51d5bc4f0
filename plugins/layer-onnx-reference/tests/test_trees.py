"""Classifiers of two classes and what is made of integers, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt import PluginSet, Registry

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper  # noqa: E402 - needs onnx

Array = np.ndarray[Any, Any]
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))  # nothing here is compiled


def compare(kind: str, outputs: list[str], x: Array, **attributes: Any) -> None:
    """One node of ai.onnx.ml in both."""
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], outputs, "node", domain="ai.onnx.ml", **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), ["N", *x.shape[1:]])],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        network = tenonrt.parse(path, registry=REGISTRY)
    found = tenonrt.compile(network, optimization_level=0).create_context().execute({"x": x})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for one, expected in zip(found.values(), session.run(None, {"x": x}), strict=True):
        if np.asarray(expected).dtype.kind == "f":
            assert one.dtype == expected.dtype
            np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6)
        else:
            assert one.tolist() == np.asarray(expected).tolist()


def stumps(rng: np.random.Generator, trees: int) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Trees of one branch with two leaves, and the leaves as (tree, node)."""
    nodes = {
        "nodes_treeids": [tree for tree in range(trees) for _ in range(3)],
        "nodes_nodeids": [0, 1, 2] * trees,
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
        "nodes_featureids": [int(rng.integers(2)) if node == 0 else 0 for _ in range(trees) for node in range(3)],
        "nodes_values": [float(rng.normal()) if node == 0 else 0.0 for _ in range(trees) for node in range(3)],
        "nodes_truenodeids": [1, 0, 0] * trees,
        "nodes_falsenodeids": [2, 0, 0] * trees,
    }
    return nodes, [(tree, node) for tree in range(trees) for node in (1, 2)]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1), trees=st.integers(1, 4), weighted=st.integers(0, 1), positive=st.booleans(),
    transform=st.sampled_from(["NONE", "LOGISTIC", "SOFTMAX"]), base=st.none() | st.floats(-1, 1, width=32),
    words=st.booleans(),
)  # fmt: skip
def test_weights_of_one_class(
    seed: int, trees: int, weighted: int, positive: bool, transform: str, base: float | None, words: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    nodes, leaves = stumps(rng, trees)
    weights = rng.normal(size=len(leaves))
    compare(
        "TreeEnsembleClassifier", ["label", "scores"], rng.normal(size=(7, 2)).astype(np.float32),
        class_treeids=[tree for tree, _ in leaves], class_nodeids=[node for _, node in leaves],
        class_ids=[weighted] * len(leaves), class_weights=(abs(weights) / trees if positive else weights).tolist(),
        post_transform=transform, **({} if base is None else {"base_values": [base]}),
        **({"classlabels_strings": ["no", "yes"]} if words else {"classlabels_int64s": [-1, 4]}), **nodes,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float64])
@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("Scaler", {"offset": [0.5, 1.0, 2.0], "scale": [0.5, 1.5, 2.0]}), ("Normalizer", {"norm": "L2"})],
)
def test_integers_become_floats(kind: str, attributes: dict[str, Any], dtype: type) -> None:
    compare(kind, ["y"], np.arange(-6, 6).reshape(4, 3).astype(dtype), **attributes)
