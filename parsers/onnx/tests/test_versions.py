"""Operators of domains of others: each version of them may have a mapping of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import pytest
from onnx import helper
from tenonrt.contracts import ParseError


def named(kind: str) -> Any:
    def mapping(builder: Any, node: Any, inputs: Sequence[Any]) -> Any:
        return builder.add("Activation", inputs, {"function": kind, "version": node.version}, name=node.name)

    return mapping


def model(version: int) -> onnx.ModelProto:
    node = helper.make_node("Swish", ["x"], ["y"], "swish", domain="acme")
    graph = helper.make_graph(
        [node], "graph", [helper.make_tensor_value_info("x", 1, [2])], [onnx.ValueInfoProto(name="y")]
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("acme", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(
    ("version", "wanted"), [(1, "any"), (2, "second"), (3, "second"), (4, "fourth"), (9, "fourth"), (10**12, "fourth")]
)
def test_the_latest_mapping_that_is_not_newer(parse: Any, version: int, wanted: str) -> None:
    extra = {
        "onnx:acme:Swish": named("any"),
        "onnx:acme:Swish@2": named("second"),
        "onnx:acme:Swish@4": named("fourth"),
    }
    found = parse(model(version), extra=extra).only
    assert found.attrs == {"function": wanted, "version": version}


def test_a_version_before_the_first_is_not_supported(parse: Any) -> None:
    assert parse(model(2), extra={"onnx:acme:Swish@2": named("second")}).only.attrs["function"] == "second"
    with pytest.raises(ParseError, match=r"acme:Swish \(opset 1\): node 'swish'"):
        parse(model(1), extra={"onnx:acme:Swish@2": named("second")})


def test_standard_operators_are_not_overridden_in_passing(parse: Any, one_node: Any) -> None:
    import numpy as np

    standard = one_node("Relu", {"x": np.ones(2, np.float32)})
    assert parse(standard, extra={"onnx::Relu@6": named("mine")}).only.attrs == {"function": "relu"}
