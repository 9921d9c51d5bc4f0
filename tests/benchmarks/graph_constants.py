"""What a graph of ONNX computes of constants alone, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def folded(model: onnx.ModelProto) -> tuple[dict[str, np.ndarray[Any, Any]], list[onnx.NodeProto]]:
    """Constants, those that nodes make of constants alone among them, and the other nodes."""
    graph = model.graph
    tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    others = []
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.input and all(not name or name in tensors for name in node.input):
            given = {name: tensors[name] for name in node.input if name}
            alone = helper.make_graph([node], "constants", [_value(n) for n in given], [_value(n) for n in node.output])
            made = ReferenceEvaluator(helper.make_model(alone, opset_imports=model.opset_import)).run(None, given)
            tensors.update(zip(node.output, made, strict=True))
        else:
            others.append(node)
    return tensors, others


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_value_info(name, onnx.TypeProto())
