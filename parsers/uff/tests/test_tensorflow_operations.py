"""Every operation of TensorFlow, from bytes assembled here, against NumPy."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
from tenonrt import Network, Registry
from tenonrt_parser_uff.tensorflow.options import TensorFlowOptions
from tenonrt_parser_uff.tensorflow.parser import TensorFlowParser
from tf_bytes import GraphDef
from tf_cases import CASES, LATER, X


def read(content: bytes, registry: Registry, **options: Any) -> Network:
    network = Network(registry=registry)
    TensorFlowParser().parse_buffer(content, network, TensorFlowOptions(**options))
    return network


def check(graph: GraphDef, x: Any, expected: Any, registry: Registry, run: Any) -> None:
    results = expected if isinstance(expected, list) else [expected]
    outputs = tuple(f"y:{i}" for i in range(len(results)))
    found = run(read(graph.encode(), registry, outputs=outputs), x=np.asarray(x))
    for name, wanted in zip(("y", *outputs[1:]), results, strict=False):
        assert found[name].shape == np.shape(wanted)
        assert np.asarray(wanted).dtype.kind == found[name].dtype.kind
        np.testing.assert_allclose(found[name], wanted, 1e-5, 1e-5)


@pytest.mark.parametrize("name", CASES)
def test_operation(name: str, registry: Registry, run: Any) -> None:
    operation, inputs, attrs, expected = CASES[name]
    graph = GraphDef()
    names = [graph.placeholder("x", list(np.shape(inputs[0])), np.asarray(inputs[0]).dtype.name)]
    names += [graph.const(f"c{i}", value) for i, value in enumerate(inputs[1:])]
    graph.node("y", operation, names, **attrs)
    expected = expected(inputs[0].astype(np.float64)) if callable(expected) else expected
    check(graph, inputs[0], expected, registry, run)


@pytest.mark.parametrize("name", LATER)
def test_operation_whose_data_comes_later(name: str, registry: Registry, run: Any) -> None:
    operation, before, x, behind, attrs, expected = LATER[name]
    graph = GraphDef()
    names = [graph.const(f"a{i}", value) for i, value in enumerate(before)]
    names += [graph.placeholder("x", list(np.shape(x)), np.asarray(x).dtype.name)]
    names += [graph.const(f"b{i}", value) for i, value in enumerate(behind)]
    graph.node("y", operation, names, **attrs)
    check(graph, x, expected, registry, run)


def test_every_mapping_is_tried() -> None:
    """Three-dimensional and repeated versions of operations share the functions of those tried."""
    mapped = {e.name.partition("::")[2]: e.value for e in entry_points(group="tenonrt.mappings")
              if e.name.startswith("tensorflow::")}  # fmt: skip
    tried = {case[0] for case in (*CASES.values(), *LATER.values())}
    assert tried <= set(mapped)
    alike = {value for name, value in mapped.items() if name in tried}
    assert {value for name, value in mapped.items() if name not in tried} <= alike


def test_convolution_in_three_dimensions(registry: Registry, run: Any) -> None:
    graph = GraphDef()
    graph.placeholder("x", [1, 2, 6, 5, 4])
    kernel = np.random.default_rng(0).standard_normal((1, 3, 3, 4, 2)).astype(np.float32)
    graph.const("k", kernel)
    graph.node("c", "Conv3D", ["x", "k"], strides=[1, 1, 1, 1, 1], padding="VALID", data_format="NDHWC")
    graph.node("y", "MaxPool3D", ["c"], ksize=[1, 2, 1, 1, 1], strides=[1, 1, 1, 1, 1], padding="VALID")
    from tf_cases import conv

    planes = [conv(X[i : i + 1], kernel[0], 1, 1, [(0, 0)] * 2) for i in range(2)]
    check(graph, X[None], np.maximum(*planes)[:, None], registry, run)
