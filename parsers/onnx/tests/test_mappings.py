"""What each operator becomes, at the opsets where it differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tenonrt.contracts import ParseError

F = np.ones((2, 4, 6, 6), np.float32)
V = np.ones(3, np.float32)
I64 = np.ones((2, 3), np.int64)
B = np.ones((2, 3), np.bool_)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


UNARY = {
    "Abs": "abs", "Neg": "neg", "Exp": "exp", "Log": "log", "Sqrt": "sqrt", "Reciprocal": "recip", "Sin": "sin",
    "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh",
    "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh", "Ceil": "ceil", "Floor": "floor", "Round": "round",
    "Sign": "sign", "Erf": "erf", "Not": "not", "BitwiseNot": "bitwise_not", "IsNaN": "is_nan",
}  # fmt: skip
BINARY = {
    "Add": "sum", "Sub": "sub", "Mul": "prod", "Div": "div", "Pow": "pow", "Equal": "equal", "Greater": "greater",
    "GreaterOrEqual": "greater_equal", "Less": "less", "LessOrEqual": "less_equal", "And": "and", "Or": "or",
    "Xor": "xor", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor", "Mod": "mod",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "operation"), UNARY.items())
def test_unary(parse, one_node, kind, operation):
    layer = parse(one_node(kind, {"x": V})).only
    assert (layer.kind, layer.attrs, layer.name, layer.source) == ("Unary", {"operation": operation}, "node", "node")


@pytest.mark.parametrize(("kind", "operation"), BINARY.items())
def test_binary(parse, one_node, kind, operation):
    layer = parse(one_node(kind, {"a": V, "b": V})).only
    assert (layer.kind, layer.attrs) == ("Elementwise", {"operation": operation})
    assert [t.name for t in layer.inputs] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "attributes", "expected"),
    [
        ("Relu", {}, {"function": "relu"}),
        ("Sigmoid", {}, {"function": "sigmoid"}),
        ("Tanh", {}, {"function": "tanh"}),
        ("Softsign", {}, {"function": "softsign"}),
        ("Softplus", {}, {"function": "softplus"}),
        ("HardSwish", {}, {"function": "hard_swish"}),
        ("Mish", {}, {"function": "mish"}),
        ("LeakyRelu", {"alpha": 0.5}, {"function": "leaky_relu", "alpha": 0.5}),
        ("LeakyRelu", {}, {"function": "leaky_relu"}),
        ("Elu", {"alpha": 0.5}, {"function": "elu", "alpha": 0.5}),
        ("Celu", {"alpha": 0.5}, {"function": "celu", "alpha": 0.5}),
        ("Selu", {"alpha": 0.5, "gamma": 2.0}, {"function": "selu", "alpha": 0.5, "beta": 2.0}),
        ("ThresholdedRelu", {"alpha": 0.5}, {"function": "thresholded_relu", "alpha": 0.5}),
        ("HardSigmoid", {"alpha": 0.5, "beta": 0.25}, {"function": "hard_sigmoid", "alpha": 0.5, "beta": 0.25}),
        ("Shrink", {"lambd": 0.25, "bias": 0.5}, {"function": "shrink", "alpha": 0.25, "beta": 0.5}),
        ("Gelu", {}, {"function": "gelu"}),
        ("Gelu", {"approximate": "tanh"}, {"function": "gelu_tanh"}),
        ("Swish", {"alpha": 2.0}, {"function": "swish", "alpha": 2.0}),
    ],
)
def test_activation(parse, one_node, kind, attributes, expected):
    layer = parse(one_node(kind, {"x": V}, 24, **attributes)).only
    assert (layer.kind, layer.attrs) == ("Activation", expected)


# (operator, opset, inputs, names of those that are constant, attributes) -> (kind, attributes, number of inputs)
SINGLE: list[tuple[str, int, dict[str, Any], tuple[str, ...], dict[str, Any], str, dict[str, Any], int]] = [
    ("IsInf", 20, {"x": V}, (), {"detect_negative": 0}, "Unary",
     {"operation": "is_inf", "detect_positive": True, "detect_negative": False}, 1),
    ("Mod", 13, {"a": V, "b": V}, (), {"fmod": 1}, "Elementwise", {"operation": "fmod"}, 2),
    ("BitShift", 11, {"a": I64, "b": I64}, (), {"direction": "LEFT"}, "Elementwise", {"operation": "shift_left"}, 2),
    ("BitShift", 11, {"a": I64, "b": I64}, (), {"direction": "RIGHT"}, "Elementwise", {"operation": "shift_right"}, 2),
    ("Where", 16, {"c": B, "a": F, "b": F}, (), {}, "Select", {}, 3),
    ("Cast", 13, {"x": F}, (), {"to": 10}, "Cast", {"to": "float16", "saturate": True}, 1),
    ("Cast", 19, {"x": F}, (), {"to": 17, "saturate": 0}, "Cast", {"to": "float8_e4m3fn", "saturate": False}, 1),
    ("CastLike", 19, {"x": F, "t": I64}, (), {}, "Cast", {"to": "int64", "saturate": True}, 1),
    ("PRelu", 16, {"x": F, "s": V}, (), {}, "ParametricRelu", {}, 2),
    ("Clip", 7, {"x": F}, (), {"min": 0.0, "max": 6.0}, "Activation",
     {"function": "clip", "alpha": 0.0, "beta": 6.0}, 1),
    ("Clip", 13, {"x": F, "lo": np.float32(0)[None][0:1].reshape(()), "hi": np.asarray(6, np.float32)}, ("lo", "hi"),
     {}, "Activation", {"function": "clip", "alpha": 0.0, "beta": 6.0}, 1),
    ("Clip", 13, {"x": F, "lo": None, "hi": np.asarray(6, np.float32)}, ("hi",), {}, "Activation",
     {"function": "clip", "beta": 6.0}, 1),
    ("Clip", 13, {"x": F}, (), {}, "Activation", {"function": "clip"}, 1),
    ("Softmax", 13, {"x": F}, (), {}, "Softmax", {"axis": -1, "log": False}, 1),
    ("Softmax", 11, {"x": F}, (), {"axis": 3}, "Softmax", {"axis": -1, "log": False}, 1),
    ("LogSoftmax", 13, {"x": F}, (), {"axis": 1}, "Softmax", {"axis": 1, "log": True}, 1),
    ("Hardmax", 13, {"x": F}, (), {}, "Hardmax", {"axis": -1}, 1),
    ("Conv", 11, {"x": F, "w": np.ones((4, 2, 3, 5), np.float32)}, (),
     {"group": 2, "pads": [0, 1, 2, 3], "strides": [1, 2], "dilations": [2, 1], "kernel_shape": [3, 5]}, "Convolution",
     {"stride": (1, 2), "dilation": (2, 1), "pre_padding": (0, 1), "post_padding": (2, 3), "groups": 2,
      "padding_mode": "explicit"}, 2),
    ("Conv", 11, {"x": F, "w": np.ones((4, 4, 3, 3), np.float32), "b": V}, (), {"auto_pad": "SAME_UPPER"},
     "Convolution", {"stride": (), "dilation": (), "groups": 1, "padding_mode": "same_upper"}, 3),
    ("ConvTranspose", 11, {"x": F, "w": np.ones((4, 4, 3, 3), np.float32)}, (),
     {"output_padding": [1, 0], "output_shape": [9, 9], "strides": [2, 2]}, "Deconvolution",
     {"stride": (2, 2), "dilation": (), "groups": 1, "padding_mode": "explicit", "output_padding": (1, 0),
      "output_shape": (9, 9)}, 2),
    ("MaxPool", 12, {"x": F}, (), {"kernel_shape": [2, 2], "ceil_mode": 1, "pads": [0, 0, 1, 1]}, "Pooling",
     {"function": "max", "window": (2, 2), "stride": (), "dilation": (), "pre_padding": (0, 0),
      "post_padding": (1, 1), "padding_mode": "explicit", "ceil": True, "with_indices": False, "storage_order": 0}, 1),
    ("AveragePool", 19, {"x": F}, (), {"kernel_shape": [2, 2], "count_include_pad": 1, "auto_pad": "VALID"}, "Pooling",
     {"function": "average", "window": (2, 2), "stride": (), "dilation": (), "padding_mode": "valid", "ceil": False,
      "count_includes_padding": True}, 1),
    ("LpPool", 18, {"x": F}, (), {"kernel_shape": [2, 2], "p": 3}, "Pooling",
     {"function": "lp", "window": (2, 2), "stride": (), "dilation": (), "padding_mode": "explicit", "ceil": False,
      "p": 3}, 1),
    ("GlobalAveragePool", 7, {"x": F}, (), {}, "Reduce", {"operation": "mean", "axes": (2, 3), "keep_dims": True}, 1),
    ("GlobalMaxPool", 7, {"x": F}, (), {}, "Reduce", {"operation": "max", "axes": (2, 3), "keep_dims": True}, 1),
    ("GlobalLpPool", 7, {"x": F}, (), {"p": 2}, "Reduce", {"operation": "l2", "axes": (2, 3), "keep_dims": True}, 1),
    ("LRN", 13, {"x": F}, (), {"size": 3, "bias": 2.0}, "LRN", {"window": 3, "alpha": 1e-4, "beta": 0.75, "k": 2.0},
     1),
    ("MatMul", 13, {"a": F, "b": F}, (), {}, "MatrixMultiply", {}, 2),
    ("BatchNormalization", 7, {"x": F, "s": V, "b": V, "m": V, "v": V}, (), {"epsilon": 0.5}, "BatchNormalization",
     {"epsilon": 0.5}, 5),
    ("BatchNormalization", 15, {"x": F, "s": V, "b": V, "m": V, "v": V}, (), {"training_mode": 0},
     "BatchNormalization", {"epsilon": 1e-5}, 5),
    ("LayerNormalization", 17, {"x": F, "s": V}, (), {"axis": 2}, "LayerNormalization",
     {"axis": 2, "epsilon": 1e-5, "statistics": False}, 2),
    ("RMSNormalization", 23, {"x": F, "s": V}, (), {}, "RmsNormalization", {"axis": -1, "epsilon": 1e-5}, 2),
    ("InstanceNormalization", 6 + 1, {"x": F, "s": V, "b": V}, (), {}, "InstanceNormalization", {"epsilon": 1e-5}, 3),
    ("GroupNormalization", 21, {"x": F, "s": V, "b": V}, (), {"num_groups": 2}, "GroupNormalization",
     {"groups": 2, "epsilon": 1e-5}, 3),
    ("LpNormalization", 7, {"x": F}, (), {"axis": 1, "p": 1}, "LpNormalization", {"axis": 1, "p": 1}, 1),
    ("Identity", 13, {"x": F}, (), {}, "Identity", {}, 1),
    ("Dropout", 7, {"x": F}, (), {"ratio": 0.5}, "Identity", {}, 1),
    ("Dropout", 12, {"x": F, "r": np.asarray(0.5, np.float32)}, ("r",), {}, "Identity", {}, 1),
    ("Transpose", 13, {"x": F}, (), {"perm": [0, 2, 3, 1]}, "Transpose", {"permutation": (0, 2, 3, 1)}, 1),
    ("Transpose", 13, {"x": F}, (), {}, "Transpose", {"permutation": ()}, 1),
    ("Reshape", 13, {"x": F, "s": ints(0, -1)}, ("s",), {}, "Reshape", {"zero_copies": True}, 2),
    ("Reshape", 14, {"x": F, "s": ints(0, -1)}, ("s",), {"allowzero": 1}, "Reshape", {"zero_copies": False}, 2),
    ("Flatten", 13, {"x": F}, (), {}, "Flatten", {"axis": 1}, 1),
    ("Squeeze", 11, {"x": F}, (), {"axes": [0]}, "Squeeze", {"axes": (0,)}, 1),
    ("Squeeze", 11, {"x": F}, (), {}, "Squeeze", {}, 1),
    ("Squeeze", 13, {"x": F, "a": ints(0, -1)}, ("a",), {}, "Squeeze", {"axes": (0, -1)}, 1),
    ("Squeeze", 13, {"x": F}, (), {}, "Squeeze", {}, 1),
    ("Unsqueeze", 11, {"x": F}, (), {"axes": [0, 2]}, "Unsqueeze", {"axes": (0, 2)}, 1),
    ("Unsqueeze", 13, {"x": F, "a": ints(0, 2)}, ("a",), {}, "Unsqueeze", {"axes": (0, 2)}, 1),
    ("Expand", 13, {"x": F, "s": ints(2, 4, 6, 6)}, (), {}, "Expand", {}, 2),
    ("Tile", 13, {"x": F, "r": ints(1, 2, 3, 1)}, (), {}, "Tile", {}, 2),
    ("DepthToSpace", 13, {"x": F}, (), {"blocksize": 2, "mode": "CRD"}, "DepthToSpace",
     {"block_size": 2, "mode": "CRD"}, 1),
    ("DepthToSpace", 7, {"x": F}, (), {"blocksize": 2}, "DepthToSpace", {"block_size": 2, "mode": "DCR"}, 1),
    ("SpaceToDepth", 13, {"x": F}, (), {"blocksize": 2}, "SpaceToDepth", {"block_size": 2}, 1),
    ("Concat", 13, {"a": F, "b": F, "c": F}, (), {"axis": -1}, "Concatenation", {"axis": -1}, 3),
    ("Slice", 13, {"x": F, "s": ints(0), "e": ints(1), "a": ints(0), "t": ints(2)}, (), {}, "Slice", {}, 5),
    ("Slice", 10, {"x": F, "s": ints(0), "e": ints(1)}, (), {}, "Slice", {}, 3),
    ("Pad", 18, {"x": F, "p": ints(0, 1), "v": np.asarray(1, np.float32), "a": ints(1)}, (), {"mode": "edge"},
     "Padding", {"mode": "edge"}, 4),
    ("Pad", 11, {"x": F, "p": ints(*[0] * 8)}, (), {}, "Padding", {"mode": "constant"}, 2),
    ("Gather", 13, {"x": F, "i": I64}, (), {"axis": 1}, "Gather", {"axis": 1}, 2),
    ("GatherElements", 13, {"x": F, "i": I64}, (), {"axis": 1}, "GatherElements", {"axis": 1}, 2),
    ("GatherND", 13, {"x": F, "i": I64}, (), {"batch_dims": 1}, "GatherND", {"batch_dims": 1}, 2),
    ("Scatter", 9, {"x": F, "i": I64, "u": F}, (), {"axis": 1}, "ScatterElements", {"reduction": "none", "axis": 1}, 3),
    ("ScatterElements", 18, {"x": F, "i": I64, "u": F}, (), {"reduction": "max"}, "ScatterElements",
     {"reduction": "max", "axis": 0}, 3),
    ("ScatterND", 16, {"x": F, "i": I64, "u": F}, (), {"reduction": "add"}, "ScatterND", {"reduction": "add"}, 3),
    ("ConstantOfShape", 9, {"s": ints(2)}, (), {}, "Fill", {"value": 0.0, "dtype": "float32"}, 1),
    ("Shape", 13, {"x": F}, (), {}, "Shape", {"start": 0}, 1),
    ("Shape", 15, {"x": F}, (), {"start": 1, "end": -1}, "Shape", {"start": 1, "end": -1}, 1),
    ("Size", 13, {"x": F}, (), {}, "Size", {}, 1),
    ("Range", 11, {"s": ints(0), "l": ints(5), "d": ints(1)}, (), {}, "Range", {}, 3),
    ("NonZero", 13, {"x": F}, (), {}, "NonZero", {}, 1),
    ("OneHot", 11, {"i": I64, "d": ints(3), "v": V}, (), {"axis": 1}, "OneHot", {"axis": 1}, 3),
    ("ArgMax", 13, {"x": F}, (), {"axis": 1, "keepdims": 0, "select_last_index": 1}, "ArgReduce",
     {"operation": "max", "axis": 1, "keep_dims": False, "select_last": True}, 1),
    ("ArgMin", 7, {"x": F}, (), {}, "ArgReduce",
     {"operation": "min", "axis": 0, "keep_dims": True, "select_last": False}, 1),
    ("CumSum", 14, {"x": F, "a": ints(1)}, (), {"exclusive": 1}, "CumulativeSum",
     {"exclusive": True, "reverse": False}, 2),
    ("ReduceSum", 11, {"x": F}, (), {"axes": [1], "keepdims": 0}, "Reduce",
     {"operation": "sum", "axes": (1,), "keep_dims": False}, 1),
    ("ReduceSum", 13, {"x": F, "a": ints(1, 2)}, ("a",), {}, "Reduce",
     {"operation": "sum", "axes": (1, 2), "keep_dims": True}, 1),
    ("ReduceSum", 13, {"x": F}, (), {}, "Reduce", {"operation": "sum", "keep_dims": True}, 1),
    ("ReduceSum", 13, {"x": F}, (), {"noop_with_empty_axes": 1}, "Reduce",
     {"operation": "sum", "axes": (), "keep_dims": True}, 1),
    ("ReduceSum", 13, {"x": F, "a": ints()}, ("a",), {}, "Reduce", {"operation": "sum", "keep_dims": True}, 1),
    ("ReduceMean", 13, {"x": F}, (), {"axes": [2, 3]}, "Reduce",
     {"operation": "mean", "axes": (2, 3), "keep_dims": True}, 1),
    ("ReduceMean", 18, {"x": F, "a": ints(2, 3)}, ("a",), {}, "Reduce",
     {"operation": "mean", "axes": (2, 3), "keep_dims": True}, 1),
    *[(f"Reduce{name}", 13, {"x": F}, (), {}, "Reduce", {"operation": operation, "keep_dims": True}, 1)
      for name, operation in {"Prod": "prod", "Max": "max", "Min": "min", "L1": "l1", "L2": "l2", "LogSum": "log_sum",
                              "LogSumExp": "log_sum_exp", "SumSquare": "sum_square"}.items()],
    ("Upsample", 7, {"x": F}, (), {"scales": [1.0, 1.0, 2.0, 2.0]}, "Resize",
     {"mode": "nearest", "coordinate_transformation": "asymmetric", "nearest_rounding": "floor"}, 3),
    ("Upsample", 9, {"x": F, "s": np.ones(4, np.float32)}, (), {"mode": "linear"}, "Resize",
     {"mode": "linear", "coordinate_transformation": "asymmetric", "nearest_rounding": "floor"}, 3),
    ("Resize", 10, {"x": F, "s": np.ones(4, np.float32)}, (), {}, "Resize",
     {"mode": "nearest", "coordinate_transformation": "asymmetric", "nearest_rounding": "floor"}, 3),
    ("Resize", 11, {"x": F, "r": np.ones(0, np.float32), "s": np.ones(0, np.float32), "z": ints(2, 4, 8, 8)},
     ("r", "s"), {"mode": "cubic"}, "Resize",
     {"mode": "cubic", "coordinate_transformation": "half_pixel", "nearest_rounding": "round_prefer_floor",
      "cubic_coefficient": -0.75, "exclude_outside": False, "extrapolation": 0.0, "antialias": False,
      "keep_aspect": "stretch"}, 4),
    ("Resize", 19, {"x": F, "r": None, "s": np.ones(2, np.float32)}, ("s",),
     {"axes": [2, 3], "antialias": 1, "mode": "linear", "coordinate_transformation_mode": "align_corners"}, "Resize",
     {"mode": "linear", "coordinate_transformation": "align_corners", "nearest_rounding": "round_prefer_floor",
      "cubic_coefficient": -0.75, "exclude_outside": False, "extrapolation": 0.0, "antialias": True, "axes": (2, 3),
      "keep_aspect": "stretch"}, 3),
    ("QuantizeLinear", 10, {"x": F, "s": V, "z": np.ones(3, np.int8)}, (), {}, "Quantize",
     {"dtype": "int8", "axis": 1, "block": 0, "saturate": True}, 3),
    ("QuantizeLinear", 13, {"x": F, "s": V}, (), {"axis": 0}, "Quantize",
     {"dtype": "uint8", "axis": 0, "block": 0, "saturate": True}, 2),
    ("QuantizeLinear", 21, {"x": F, "s": V}, (), {"output_dtype": 22, "block_size": 2}, "Quantize",
     {"dtype": "int4", "axis": 1, "block": 2, "saturate": True}, 2),
    ("DequantizeLinear", 19, {"x": np.ones(3, np.int8), "s": V.astype(np.float16)}, (), {}, "Dequantize",
     {"dtype": "float16", "axis": 1, "block": 0}, 2),
]  # fmt: skip


@pytest.mark.parametrize("case", SINGLE, ids=[f"{c[0]}-{c[1]}-{i}" for i, c in enumerate(SINGLE)])
def test_single_layer(parse, one_node, case):
    kind, opset, inputs, constants, attributes, expected, attrs, count = case
    layer = parse(one_node(kind, inputs, opset, constants=constants, **attributes)).only
    assert (layer.kind, layer.attrs) == (expected, pytest.approx(attrs) if "LRN" in kind else layer.attrs)
    shown = {key: pytest.approx(value) if isinstance(value, float) else value for key, value in attrs.items()}
    assert layer.attrs == shown
    assert len(layer.inputs) == count
    assert layer.name == "node"


@pytest.mark.parametrize(("kind", "layer"), [("QuantizeLinear", "Quantize"), ("DequantizeLinear", "Dequantize")])
@pytest.mark.parametrize(("scale", "zero"), [((), (1,)), ((1,), ())])
def test_a_scalar_beside_a_vector_of_one(parse, one_node, kind, layer, scale, zero):
    x = F if kind == "QuantizeLinear" else F.astype(np.int8)
    inputs = {"x": x, "s": np.ones(scale, np.float32), "z": np.ones(zero, np.int8)}
    found = parse(one_node(kind, inputs, 19), feeds=inputs).layers[-1]
    assert found.kind == layer
    assert [t.info.shape for t in found.inputs[1:]] == [(), ()]


def test_every_mapping_is_loadable_and_every_standard_operator_is_real(new_builder):
    from onnx_recording_builder import MAPPINGS

    for key in MAPPINGS:
        format_, domain, kind = key.split(":")
        assert format_ == "onnx"
        # The operators on quantized tensors of onnxruntime's domain are tested against it in test_qlinear.py.
        assert domain == "com.microsoft" or onnx.defs.has(kind, domain)
        assert callable(new_builder().mapping(format_, domain, kind))


def test_max_pool_indices_only_where_used(parse, one_node):
    layer = parse(one_node("MaxPool", {"x": F}, outputs=2, kernel_shape=[2, 2])).only
    assert layer.attrs["with_indices"]


def test_layer_normalization_statistics(parse, one_node):
    builder = parse(one_node("LayerNormalization", {"x": F, "s": V}, outputs=["y", "", "inverse"]))
    assert builder.only.attrs["statistics"]
    assert builder.outputs["inverse"] is builder.only.outputs[2]


def test_dropout_mask(parse, one_node):
    builder = parse(one_node("Dropout", {"x": F}, outputs=2), feeds={"x": F})
    np.testing.assert_array_equal(builder.outputs["y1"].value, np.ones(F.shape, bool))


@pytest.mark.parametrize("opset", [11, 13])
def test_split_by_sizes(parse, one_node, opset):
    inputs = {"x": F} if opset < 13 else {"x": F, "s": ints(1, 3)}
    attributes = {"split": [1, 3]} if opset < 13 else {}
    layer = parse(one_node("Split", inputs, opset, 2, axis=1, **attributes)).only
    assert layer.attrs == {"axis": 1}
    if opset < 13:
        assert layer.inputs[1].constant.tolist() == [1, 3]


@pytest.mark.parametrize(("opset", "attributes"), [(11, {}), (13, {}), (18, {"num_outputs": 3})])
def test_split_equally(parse, one_node, opset, attributes):
    layer = parse(one_node("Split", {"x": F}, opset, 3, axis=2, **attributes)).only
    assert layer.attrs == {"axis": 2, "parts": 3}


def test_old_slice_and_pad_and_top_k(parse, one_node):
    layer = parse(one_node("Slice", {"x": F}, 9, starts=[1], ends=[2], axes=[3])).only
    assert [t.constant.tolist() for t in layer.inputs[1:]] == [[1], [2], [3]]
    layer = parse(one_node("Pad", {"x": F}, 10, pads=[0, 1] * 4, value=2.0, mode="constant")).only
    assert layer.inputs[1].constant.tolist() == [0, 1] * 4
    assert layer.inputs[2].constant == np.float32(2)
    layer = parse(one_node("TopK", {"x": F}, 9, 2, k=3)).only
    assert layer.inputs[1].constant.tolist() == [3]
    layer = parse(one_node("TopK", {"x": F, "k": ints(3)}, 11, 2, largest=0)).only
    assert layer.attrs == {"axis": -1, "largest": False, "sorted": True}


def test_fill_keeps_the_type(parse, one_node):
    value = onnx.helper.make_tensor("v", onnx.TensorProto.INT64, [1], [7])
    assert parse(one_node("ConstantOfShape", {"s": ints(2)}, 9, value=value)).only.attrs == {
        "value": 7,
        "dtype": "int64",
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value": onnx.numpy_helper.from_array(V)}, V),
        ({"value_float": 0.5}, np.float32(0.5)),
        ({"value_floats": [0.5, 1.0]}, np.array([0.5, 1.0], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "ü"}, np.array("ü", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    ],
)
def test_constant(parse, one_node, attributes, expected):
    builder = parse(one_node("Constant", {}, 13, **attributes))
    (layer,) = builder.layers  # a copy: outputs are results of layers
    assert layer.kind == "Identity"
    found = layer.inputs[0].constant
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.asarray(expected).dtype
    assert found.shape == np.shape(expected)


@pytest.mark.parametrize(
    ("kind", "extra"), [("LSTM", {"input_forget": 1}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})]
)
def test_recurrent(parse, one_node, kind, extra):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    inputs = {
        "x": np.ones((5, 2, 3), np.float32),
        "w": np.ones((2, gates * 4, 3), np.float32),
        "r": np.ones((2, gates * 4, 4), np.float32),
        "b": None,
        "lengths": np.array([5, 4], np.int32),
    }
    model = one_node(
        kind, inputs, 14, ["", "h"], direction="bidirectional", activations=["Tanh"], clip=3.0, layout=0,
        activation_alpha=[0.5], **extra,
    )  # fmt: skip
    layer = parse(model).only
    expected = {
        "hidden_size": 4, "direction": "bidirectional", "activations": ("Tanh",), "alphas": (0.5,), "betas": (),
        "clip": 3.0, "layout": 0, **dict.fromkeys(extra, True),
    }  # fmt: skip
    assert (layer.kind, layer.attrs) == (kind, expected)
    assert [t and t.name for t in layer.inputs] == ["x", "w", "r", None, "lengths"]


@pytest.mark.parametrize(
    ("kind", "inputs", "opset", "attributes", "message"),
    [
        ("Cast", {"x": F}, 13, {}, "'to'.*missing"),
        ("Cast", {"x": F}, 13, {"to": 99}, "data type 99"),
        ("Cast", {"x": F}, 13, {"to": "float"}, "'to' must be an integer"),
        ("Add", {"a": F}, 13, {}, "input 1"),
        ("Add", {"a": F, "b": F, "c": F}, 13, {}, "takes 2 inputs"),
        ("Conv", {"x": F, "w": F}, 11, {"pads": [1, 1]}, "'pads' has 2 values"),
        ("Conv", {"x": F, "w": F}, 11, {"kernel_shape": [1, 1]}, "differs from the weights"),
        ("Conv", {"x": F, "w": F}, 11, {"auto_pad": "WIDE"}, "not one of"),
        ("BatchNormalization", dict.fromkeys("xsbmv", F), 15, {"training_mode": 1}, "training"),
        ("Tile", {"x": F, "t": F, "a": F}, 1, {}, "tiles is None"),
        ("Unsqueeze", {"x": F}, 11, {}, "axes are missing"),
        ("Unsqueeze", {"x": F}, 13, {}, r"input 1 \(axes\)"),
        ("Softmax", {"x": F}, 11, {"axis": 5}, "axis 5 is out of range"),
        ("Gemm", {"a": F, "b": F}, 11, {}, "multiplies matrices"),
        ("Gemm", {"a": I64, "b": I64}, 11, {"alpha": 0.5}, "'alpha' is 0.5, expected a whole number"),
        ("GlobalLpPool", {"x": F}, 18, {"p": 0}, "'p' is 0, expected at least 1"),
        ("Resize", {"x": F}, 13, {}, "scales or sizes"),
        ("Resize", {"x": F, "r": None, "s": V}, 13, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "roi"),
        ("Constant", {}, 13, {}, "exactly one of"),
        ("Constant", {}, 13, {"value_int": 1, "value_float": 1.0}, "exactly one of"),
        ("Concat", {}, 13, {"axis": 0}, "no inputs"),
        ("LSTM", {"x": F, "w": F}, 14, {}, r"input 2 \(R\)"),
        ("If", {"c": B}, 16, {}, "then_branch"),
        ("Scan", {"x": F}, 8, {}, "opset 8"),
    ],
)
def test_refusals_name_the_node_and_the_attribute_or_input(parse, one_node, kind, inputs, opset, attributes, message):
    with pytest.raises(ParseError, match=rf"model\.onnx: node 'node' \({kind}, #0\): .*{message}"):
        parse(one_node(kind, inputs, opset, **attributes))
