"""Real exported networks, where they lie beside the checkout."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from tenonrt.contracts import ParseError, TensorType
from tenonrt_parser_onnx.dtypes import dtype_named
from tenonrt_parser_onnx.parser import OnnxParser

MODELS = Path(__file__).parents[4] / "shared" / "models"
GRAPHS = sorted(MODELS.glob("*.graph.onnx"))

# How many layers of a kind the operators of a model make at least; kinds with one mapping per operator.
SAME = {"Conv": "Convolution", "MatMul": "MatrixMultiply", "BatchNormalization": "BatchNormalization", "LSTM": "LSTM",
        "Gemm": "FullyConnected", "Concat": "Concatenation", "Split": "Split", "Resize": "Resize", "Pad": "Padding",
        "Where": "Select", "Softmax": "Softmax", "Slice": "Slice", "LayerNormalization": "LayerNormalization",
        "GatherND": "GatherND"}  # fmt: skip


def output_types(model: onnx.ModelProto) -> dict[str, list[TensorType]]:
    """The types that the exporter wrote down, by node; the builder of these tests infers none."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {v.name: v.type.tensor_type for v in [*inferred.value_info, *inferred.output]}
    types = {
        name: TensorType(tuple(d.dim_value for d in t.shape.dim), dtype_named(t.elem_type)) for name, t in known.items()
    }
    return {node.name: [types.get(output, TensorType(())) for output in node.output] for node in model.graph.node}


@pytest.mark.skipif(not GRAPHS, reason="no networks beside the checkout")
@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.name.split(".")[0])
def test_network(path, tmp_path, new_builder):
    model = onnx.load(path)
    types = output_types(model)
    zeros = 0
    for tensor in model.graph.initializer:
        if tensor.doc_string.startswith('{"mean"'):  # the weights were replaced by a summary
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="zeros.bin")
            zeros = max(zeros, 4 * int(np.prod(tensor.dims)))
    with (tmp_path / "zeros.bin").open("wb") as file:
        file.truncate(zeros)
    (tmp_path / path.name).write_bytes(model.SerializeToString())
    head = (tmp_path / path.name).read_bytes()[:4096]
    assert OnnxParser().sniff(head)
    builder = new_builder(types=types)
    OnnxParser().parse(tmp_path / path.name, builder)
    operators, kinds = Counter(node.op_type for node in model.graph.node), Counter(builder.kinds)
    for operator, kind in SAME.items():
        assert kinds[kind] == operators[operator], operator
    assert len(builder.layers) == len(model.graph.node)
    assert list(builder.outputs) == [output.name for output in model.graph.output]
    assert [t.name for t in builder.inputs] == [i.name for i in model.graph.input]


@pytest.mark.skipif(not GRAPHS, reason="no networks beside the checkout")
def test_a_summarised_network_is_refused(new_builder):
    with pytest.raises(ParseError, match=r"initializer '.*': has 0"):
        OnnxParser().parse(MODELS / "lenet.graph.onnx", new_builder())


@pytest.mark.skipif(not (MODELS / "materialize.py").exists(), reason="no networks beside the checkout")
def test_materialized_network(tmp_path, new_builder):
    subprocess.run([sys.executable, MODELS / "materialize.py", tmp_path, "lenet"], check=True, capture_output=True)
    model = onnx.load(tmp_path / "lenet.onnx")
    builder = new_builder(types=output_types(model))
    OnnxParser().parse(tmp_path / "lenet.onnx", builder)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {t.name: t.constant for t in builder.constants if t.name in expected}
    assert len(found) > 5
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])
