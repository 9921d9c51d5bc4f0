"""The trained network as an ONNX graph, node by node, as a training framework leaves it: nothing is folded."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
# The first IR version that admits opset 17 (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
IR_VERSION = 8

Weights = Mapping[str, NDArray[np.float32]]


def build_model(weights: Weights, dropout: float) -> onnx.ModelProto:
    """Return the checked model: `image` float32 [N, 1, 8, 8] to `probabilities` float32 [N, 10], N symbolic.

    `weights` has the names of the PyTorch state: `conv1.weight`, `bn1.running_mean`, ..., `fc.bias`.
    """
    drawing = _Drawing(weights)
    stem = drawing.convolution_block("1", "image")
    stem = drawing.node("MaxPool", "pool1", [stem], kernel_shape=[2, 2], strides=[2, 2])
    stem = drawing.convolution_block("2", stem)
    inner = drawing.convolution_block("3", stem)
    block = drawing.node("Add", "add4", [drawing.normalized_convolution("4", inner), stem])
    block = drawing.node("Relu", "relu4", [block])
    branches = [drawing.convolution_block(name, block) for name in ("5a", "5b")]
    joined = drawing.node("Concat", "concat5", branches, axis=1)
    _classifier(drawing, joined, dropout)
    return _checked_model(drawing)


class _Drawing:
    """Collects nodes and initializers; a node's output carries the node's name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(
        self, kind: str, name: str, inputs: Sequence[str], output: str = "", **attributes: float | list[int]
    ) -> str:
        """Append a node and return the name of its output: `output`, or the node's own name."""
        output = output or name
        node = helper.make_node(kind, inputs, [output], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return output

    def constant(self, name: str, value: NDArray[np.float32]) -> str:
        """Append an initializer and return its name."""
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str) -> str:
        """Append a trained weight and return its name."""
        return self.constant(name, self.weights[name])

    def convolution_block(self, suffix: str, source: str) -> str:
        """Append convolution, batch normalization and ReLU."""
        return self.node("Relu", f"relu{suffix}", [self.normalized_convolution(suffix, source)])

    def normalized_convolution(self, suffix: str, source: str) -> str:
        """Append a convolution that keeps the image size, and its batch normalization."""
        weight = self.weight(f"conv{suffix}.weight")
        kernel = self.weights[weight].shape[2:]
        pads = [size // 2 for size in kernel] * 2
        convolved = self.node("Conv", f"conv{suffix}", [source, weight], kernel_shape=list(kernel), pads=pads)
        fields = ("weight", "bias", "running_mean", "running_var")  # The order of BatchNormalization's inputs.
        statistics = [self.weight(f"bn{suffix}.{field}") for field in fields]
        return self.node("BatchNormalization", f"bn{suffix}", [convolved, *statistics], epsilon=1e-5)


def _classifier(drawing: _Drawing, features: str, dropout: float) -> None:
    pooled = drawing.node("GlobalAveragePool", "gap", [features])
    flat = drawing.node("Flatten", "flatten", [pooled], axis=1)
    ratio = drawing.constant("dropout.ratio", np.array(dropout, np.float32))
    kept = drawing.node("Dropout", "dropout", [flat, ratio])
    logits = drawing.node("Gemm", "fc", [kept, drawing.weight("fc.weight"), drawing.weight("fc.bias")], transB=1)
    drawing.node("Softmax", "softmax", [logits], output="probabilities", axis=1)


def _checked_model(drawing: _Drawing) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(drawing.nodes, "digits", [image], [probabilities], drawing.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tenonrt-digits")
    onnx.checker.check_model(model, full_check=True)
    return model
