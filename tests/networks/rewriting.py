"""An image classifier that some parser read, written as the ONNX model that an exporter makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import helper, numpy_helper

Node = tuple[str, dict[str, Any]]


def _convolution(layer: Any) -> Node:
    a = layer.attrs
    shape = layer.inputs[1].constant.shape[2:]
    return "Conv", {"kernel_shape": shape, "strides": a.stride, "pads": [*a.pre_padding, *a.post_padding],
                    "dilations": a.dilation, "group": a.groups}  # fmt: skip


def _pooling(layer: Any) -> Node:
    a = layer.attrs
    names = {"kernel_shape": a.window, "strides": a.stride or (1, 1), "ceil_mode": int(a.ceil),
             "pads": [*(a.pre_padding or (0, 0)), *(a.post_padding or (0, 0))]}  # fmt: skip
    return ("MaxPool", names) if a.function == "max" else ("AveragePool", {**names, "count_include_pad": 0})


def _response(layer: Any) -> Node:
    a = layer.attrs
    return "LRN", {"size": a.window, "alpha": a.alpha, "beta": a.beta, "bias": a.k}


def _activation(layer: Any) -> Node:
    assert layer.attrs.function == "relu"
    return "Relu", {}


NODES: dict[str, Callable[[Any], Node]] = {
    "Convolution": _convolution,
    "Pooling": _pooling,
    "LRN": _response,
    "Activation": _activation,
    "Concatenation": lambda layer: ("Concat", {"axis": layer.attrs.axis}),
    "Flatten": lambda layer: ("Flatten", {"axis": layer.attrs.axis}),
    "FullyConnected": lambda layer: ("Gemm", {"transB": 1}),
    "Softmax": lambda layer: ("Softmax", {"axis": layer.attrs.axis}),
}


def as_onnx(network: Any) -> onnx.ModelProto:
    """The network's layers one by one, in opset 17; a kind that is not in `NODES` is a KeyError."""
    nodes: list[Any] = []
    weights: dict[str, Any] = {}
    for layer in network.layers:
        kind, attributes = NODES[layer.kind](layer)
        names = []
        for place, tensor in enumerate(layer.inputs):
            if tensor is not None:
                names.append(tensor.name if tensor.constant is None else f"{layer.name}/{place}")
                if tensor.constant is not None:
                    weights[names[-1]] = tensor.constant
        nodes.append(helper.make_node(kind, names, [t.name for t in layer.outputs], layer.name, **attributes))
    ends = [
        [helper.make_tensor_value_info(t.name, onnx.TensorProto.FLOAT, t.type.concrete({})) for t in tensors]
        for tensors in (network.graph.inputs, network.graph.outputs.values())
    ]
    constants = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, network.graph.name or "network", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
