"""Loops whose states change their lengths, which models need not declare, against onnxruntime."""

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

from onnx import TensorProto, helper  # noqa: E402 - needs onnx

# References alone: no kernel is compiled.
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm", "tenonrt-kernel-numpy:cpu/[CF]*")))
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
few = settings(max_examples=6, deadline=None)


def loop(steps: list[Any], states: dict[str, list[str | int] | None], given: dict[str, str]) -> onnx.ModelProto:
    """A model of one Loop over ``x`` of [N, 2]. states: the body's inputs with their shapes, None undeclared; each
    returned as its name with a prime, and begun as the tensor of the model that ``given`` names."""
    body = helper.make_graph(
        [*steps, helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            *(helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in states.items()),
        ],
        [onnx.ValueInfoProto(name=name) for name in ("on", *(f"{state}'" for state in states))],
    )
    results = [f"last_{state}" for state in states]
    node = helper.make_node("Loop", ["trips", "", *given.values()], results, "loop", body=body)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("trips", INT64, []), helper.make_tensor_value_info("x", FLOAT, ["N", 2])],
        [onnx.ValueInfoProto(name=name) for name in results],
        [onnx.numpy_helper.from_array(np.zeros((0, 2), np.float32), "nothing")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compare(model: onnx.ModelProto, trips: int, rows: int) -> None:
    feed = {"trips": np.array(trips), "x": np.random.default_rng(rows).random((rows, 2), np.float32)}
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(model.SerializeToString())
        network = tenonrt.parse(path, registry=REGISTRY)
    found = tenonrt.compile(network, optimization_level=0).create_context().execute(feed)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for one, expected in zip(found.values(), session.run(None, feed), strict=True):
        assert one.dtype == expected.dtype
        np.testing.assert_allclose(one, expected, rtol=1e-6)


@few
@given(
    trips=st.integers(0, 4), rows=st.integers(1, 3), begun=st.sampled_from(["x", "nothing"]),
    declared=st.sampled_from([None, ["M", 2]]),
)  # fmt: skip
def test_a_state_grows(trips: int, rows: int, begun: str, declared: list[str | int] | None) -> None:
    steps = [helper.make_node("Concat", ["s", "x"], ["s'"], axis=0)]
    compare(loop(steps, {"s": declared}, {"s": begun}), trips, rows)


@few
@given(trips=st.integers(0, 3), rows=st.integers(1, 3))
def test_states_grow_with_others(trips: int, rows: int) -> None:
    """The second changes only once the first may have any length."""
    steps = [
        helper.make_node("Concat", ["s", "x"], ["s'"], axis=0),
        helper.make_node("Relu", ["s"], ["t'"]),
        helper.make_node("Neg", ["t"], ["u'"]),
    ]
    compare(loop(steps, {"s": None, "t": None, "u": None}, {"s": "x", "t": "x", "u": "x"}), trips, rows)


def test_a_state_of_one_length_keeps_it(parse: Any) -> None:
    steps = [helper.make_node("Add", ["s", "x"], ["s'"])]
    layer = parse(loop(steps, {"s": None}, {"s": "x"})).only
    (body,) = layer.graphs
    assert str(body.inputs[2].type) == "float32[Nx2]"
