"""Frozen graphs of whole networks, as the training scripts of TensorFlow 1 left them; weights are seeded."""

from __future__ import annotations

from typing import Any

import numpy as np
from tf_bytes import GraphDef


class Net(GraphDef):
    """A graph with the variables of its layers frozen."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def variable(self, name: str, *shape: int, positive: bool = False) -> str:
        fan = float(np.prod(shape[:-1])) if len(shape) > 1 else 1.0
        values = self.rng.standard_normal(shape) / np.sqrt(fan)
        values = np.abs(values) + 0.5 if positive else values
        self.const(name, values.astype(np.float32))
        return self.node(f"{name}/read", "Identity", [name], T=("type", "float32"), _class=[f"loc:@{name}"])

    def conv(self, name: str, x: str, shape: tuple[int, ...], stride: int, padding: str = "SAME", **more: Any) -> str:
        depthwise = "depthwise" in name
        weights = self.variable(f"{name}/{'depthwise_' if depthwise else ''}weights", *shape)
        return self.node(
            f"{name}/{'depthwise' if depthwise else 'Conv2D'}", "DepthwiseConv2dNative" if depthwise else "Conv2D",
            [x, weights], T=("type", "float32"), strides=[1, stride, stride, 1], padding=padding, data_format="NHWC",
            **more,
        )  # fmt: skip

    def norm(self, name: str, x: str, channels: int) -> str:
        names = [self.variable(f"{name}/BatchNorm/{part}", channels, positive=part in ("gamma", "moving_variance"))
                 for part in ("gamma", "beta", "moving_mean", "moving_variance")]  # fmt: skip
        y = self.node(f"{name}/BatchNorm/FusedBatchNorm", "FusedBatchNorm", [x, *names], T=("type", "float32"),
                      epsilon=0.001, is_training=False, data_format="NHWC")  # fmt: skip
        return self.node(f"{name}/Relu6", "Relu6", [y], T=("type", "float32"))


def lenet() -> GraphDef:
    """[N, 28, 28, 1] to "prob" [N, 10], by way of dropout for training that a placeholder switches off."""
    net = Net(1)
    net.placeholder("image", [-1, 28, 28, 1])
    x = "image"
    for index, shape in enumerate([(5, 5, 1, 8), (5, 5, 8, 16)], 1):
        x = net.conv(f"conv{index}", x, shape, 1)
        x = net.node(f"conv{index}/BiasAdd", "BiasAdd", [x, net.variable(f"conv{index}/bias", shape[3])])
        x = net.node(f"conv{index}/Relu", "Relu", [x])
        x = net.node(f"pool{index}", "MaxPool", [x], ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID")
    net.const("flatten/shape", [-1, 784])
    x = net.node("flatten/Reshape", "Reshape", [x, "flatten/shape"], Tshape=("type", "int32"))
    for name, rows, columns in (("fc1", 784, 32), ("fc2", 32, 10)):
        x = net.node(f"{name}/MatMul", "MatMul", [x, net.variable(f"{name}/kernel", rows, columns)],
                     transpose_a=False, transpose_b=False)  # fmt: skip
        x = net.node(f"{name}/add", "Add", [x, net.variable(f"{name}/bias", columns)])
        if name == "fc1":
            x = net.node("fc1/Tanh", "Tanh", [x])
            x = dropout(net, x)
    net.node("prob", "Softmax", [x])
    return net


def dropout(net: GraphDef, x: str) -> str:
    net.node("keras_learning_phase", "Placeholder", dtype=("type", "bool"), shape=("shape", []))
    net.node("dropout/cond/pred_id", "Identity", ["keras_learning_phase"])
    net.node("dropout/cond/Switch", "Switch", [x, "dropout/cond/pred_id"])
    net.node("dropout/cond/random", "RandomUniform", ["dropout/cond/Switch:1"])
    net.node("dropout/cond/mul", "Mul", ["dropout/cond/Switch:1", "dropout/cond/random"])
    return net.node("dropout/cond/Merge", "Merge", ["dropout/cond/Switch", "dropout/cond/mul"], N=2)


# Stride and channels of MobileNetV1's separable convolutions, a quarter as wide and with fewer of the repeated ones.
BLOCKS = ((1, 16), (2, 32), (1, 32), (2, 64), (1, 64), (2, 128), (1, 128))


def mobilenet() -> GraphDef:
    """[N, 64, 64, 3] bytes' range to "MobilenetV1/Predictions/Reshape_1" [N, 11], as slim writes it."""
    net, p = Net(2), "MobilenetV1/MobilenetV1"
    net.placeholder("input", [-1, 64, 64, 3])
    net.const("mean", np.float32(127.5))
    net.node("sub", "Sub", ["input", "mean"])
    net.node("div", "RealDiv", ["sub", "mean"])
    x = net.norm(f"{p}/Conv2d_0", net.conv(f"{p}/Conv2d_0", "div", (3, 3, 3, 8), 2), 8)
    channels = 8
    for index, (stride, wider) in enumerate(BLOCKS, 1):
        name = f"{p}/Conv2d_{index}"
        x = net.norm(f"{name}_depthwise", net.conv(f"{name}_depthwise", x, (3, 3, channels, 1), stride), channels)
        x = net.norm(f"{name}_pointwise", net.conv(f"{name}_pointwise", x, (1, 1, channels, wider), 1), wider)
        channels = wider
    logits = "MobilenetV1/Logits"
    x = net.node(f"{logits}/AvgPool_1a/AvgPool", "AvgPool", [x], ksize=[1, 4, 4, 1], strides=[1, 1, 1, 1],
                 padding="VALID", data_format="NHWC")  # fmt: skip
    x = net.node(f"{logits}/Dropout_1b/Identity", "Identity", [x])
    x = net.conv(f"{logits}/Conv2d_1c_1x1", x, (1, 1, channels, 11), 1)
    x = net.node(f"{logits}/Conv2d_1c_1x1/BiasAdd", "BiasAdd", [x, net.variable(f"{logits}/biases", 11)])
    x = net.node(f"{logits}/SpatialSqueeze", "Squeeze", [x], squeeze_dims=[1, 2])
    net.const("MobilenetV1/Predictions/Reshape/shape", [-1, 11])
    x = net.node("MobilenetV1/Predictions/Reshape", "Reshape", [x, "MobilenetV1/Predictions/Reshape/shape"])
    x = net.node("MobilenetV1/Predictions/Softmax", "Softmax", [x])
    net.node("shape", "Shape", [f"{logits}/SpatialSqueeze"], out_type=("type", "int32"))
    net.node("MobilenetV1/Predictions/Reshape_1", "Reshape", [x, "shape"])
    return net


def residual() -> GraphDef:
    """[N, 32, 32, 3] to "logits" [N, 5]: a residual block behind an explicit Pad, joined branches and a mean."""
    net = Net(3)
    net.placeholder("image", [-1, 32, 32, 3])
    net.const("paddings", [[0, 0], [3, 3], [3, 3], [0, 0]])
    net.node("Pad", "Pad", ["image", "paddings"], Tpaddings=("type", "int32"))
    x = net.norm("conv0", net.conv("conv0", "Pad", (7, 7, 3, 8), 2, "VALID"), 8)
    x = net.node("pool", "MaxPool", [x], ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
    y = net.norm("conv1", net.conv("conv1", x, (3, 3, 8, 8), 1), 8)
    y = net.conv("conv2", y, (3, 3, 8, 8), 1)
    y = net.node("add", "AddV2", [x, y])
    y = net.node("LeakyRelu", "LeakyRelu", [y], alpha=0.1)
    net.const("axis", 3)
    y = net.node("concat", "ConcatV2", [y, x, "axis"], N=2)
    net.const("axes", [1, 2])
    y = net.node("mean", "Mean", [y, "axes"], keep_dims=False)
    y = net.node("MatMul", "MatMul", [y, net.variable("kernel", 16, 5)])
    net.node("logits", "BiasAdd", [y, net.variable("bias", 5)])
    return net
