"""The trained network as an ONNX graph, node by node, as a training framework leaves it: nothing is folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from patches_network import BLOCKS

OPSET = 17
# The first IR version that admits opset 17 (https://github.com/onnx/onnx/blob/main/docs/Versioning.md).
IR_VERSION = 8

Weights = Mapping[str, NDArray[np.float32]]


def build_model(weights: Weights) -> onnx.ModelProto:
    """Return the checked model: `image` float32 [N, 1, 32, 32] to `probabilities` float32 [N, classes], N symbolic.

    `weights` has the names of the PyTorch state: `stem.weight`, `stem_bn.running_mean`, ..., `fc.bias`.
    """
    drawing = _Drawing(weights)
    values = drawing.active("stem", "image", stride=2)
    for number, block in enumerate(BLOCKS, 1):
        inner = drawing.active(f"expand{number}", values)
        inner = drawing.active(f"depthwise{number}", inner, block.stride, block.expanded)
        projected = drawing.normalized(f"project{number}", inner)
        values = drawing.node("Add", f"add{number}", [projected, values]) if block.is_residual else projected
    pooled = drawing.node("GlobalAveragePool", "pool", [drawing.active("head", values)])
    flat = drawing.node("Flatten", "flatten", [pooled], axis=1)
    logits = drawing.node("Gemm", "fc", [flat, drawing.weight("fc.weight"), drawing.weight("fc.bias")], transB=1)
    drawing.node("Softmax", "softmax", [logits], output="probabilities", axis=1)
    return _checked_model(drawing)


class _Drawing:
    """Collects nodes and initializers; a node's output carries the node's name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        bounds = {"lower": 0.0, "upper": 6.0}
        self.initializers = [numpy_helper.from_array(np.array(v, np.float32), name) for name, v in bounds.items()]

    def node(self, kind: str, name: str, inputs: Sequence[str], output: str = "", **attributes: int | list[int]) -> str:
        """Append a node and return the name of its output: `output`, or the node's own name."""
        output = output or name
        node = helper.make_node(kind, inputs, [output], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in sorted(attributes.items()))
        self.nodes.append(node)
        return output

    def weight(self, name: str) -> str:
        """Append a trained weight and return its name."""
        self.initializers.append(numpy_helper.from_array(self.weights[name], name))
        return name

    def active(self, name: str, source: str, stride: int = 1, groups: int = 1) -> str:
        """Append a convolution, its batch normalization and a ReLU6."""
        normalized = self.normalized(name, source, stride, groups)
        return self.node("Clip", f"{name}_relu6", [normalized, "lower", "upper"])

    def normalized(self, name: str, source: str, stride: int = 1, groups: int = 1) -> str:
        """Append a padded convolution and its batch normalization."""
        weight = self.weight(f"{name}.weight")
        kernel = list(self.weights[weight].shape[2:])
        convolved = self.node(
            "Conv", name, [source, weight], group=groups, kernel_shape=kernel, pads=[size // 2 for size in kernel] * 2,
            strides=[stride, stride],
        )  # fmt: skip
        fields = ("weight", "bias", "running_mean", "running_var")  # The order of BatchNormalization's inputs.
        statistics = [self.weight(f"{name}_bn.{field}") for field in fields]
        made = self.node("BatchNormalization", f"{name}_bn", [convolved, *statistics])
        self.nodes[-1].attribute.append(helper.make_attribute("epsilon", 1e-5))
        return made


def _checked_model(drawing: _Drawing) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 32, 32])
    classes = len(drawing.weights["fc.bias"])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(drawing.nodes, "patches", [image], [probabilities], drawing.initializers)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tenonrt-patches")
    onnx.checker.check_model(model, full_check=True)
    return model
