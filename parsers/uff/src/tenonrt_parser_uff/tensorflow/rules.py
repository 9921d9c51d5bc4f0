"""How operations of TensorFlow are said in UFF: a rule gives an operation, or None where UFF has none that does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tenonrt.contracts import Array, SourceNode

from tenonrt_parser_uff.emit import chosen, flag, integer, number, numbers
from tenonrt_parser_uff.fields import Dtype
from tenonrt_parser_uff.tensorflow.mappings.arguments import channels_last


@dataclass(frozen=True)
class Operation:
    """One node of UFF. inputs: the places of the node's own inputs, or names; orders: of the first of them."""

    name: str
    inputs: Sequence[int | str]
    fields: Mapping[str, Any] = field(default_factory=dict)
    orders: Sequence[str] = ()


class Inputs(Protocol):
    """What is known of the inputs of a node."""

    @property
    def count(self) -> int: ...
    def value(self, index: int) -> Array | None: ...
    def integers(self, index: int) -> tuple[int, ...] | None: ...
    def added(self, label: str, values: Array) -> str: ...


Rule = Callable[[SourceNode, Inputs], Operation | None]


def _named(operation: str, function: str | None, inputs: Sequence[int]) -> Rule:
    """Operations that have no fields but a function's name."""
    fields = {} if function is None else {"func": function}
    return lambda node, given: Operation(operation, inputs, fields)


def _order(node: SourceNode) -> str:
    return "N+C" if channels_last(node) else "NC+"


def _inner(node: SourceNode, name: str) -> tuple[int, ...] | None:
    """The spatial entries of a list of one number per axis, where the others are 1."""
    values = numbers(node, name, ())
    if not values:
        return ()
    inner, others = (values[1:-1], values[::3]) if channels_last(node) else (values[2:], values[:2])
    return inner if set(others) == {1} and len(values) == 4 else None


def _moves(node: SourceNode) -> dict[str, Any] | None:
    """Strides, dilation and padding; None where they are beyond UFF."""
    strides, dilation = _inner(node, "strides"), _inner(node, "dilations")
    if strides is None or dilation is None:
        return None
    fields: dict[str, Any] = {"strides": strides or None, "dilation": dilation or None}
    padding = chosen(node, "padding", {"SAME": "same", "VALID": "valid", "EXPLICIT": ""})
    if padding == "same":
        fields["implicit_padding"] = padding
    elif not padding:
        pads = numbers(node, "explicit_paddings")
        inner = pads[2:-2] if channels_last(node) else pads[4:]
        if inner[::2] != inner[1::2]:
            return None
        fields["padding"] = inner[::2]
    return fields


def _conv(node: SourceNode, inputs: Inputs) -> Operation | None:
    kernel, moves = inputs.value(1), _moves(node)
    if moves is None or kernel is None or kernel.ndim != 4:
        return None
    # Those of other convolutions follow from the channels of input and kernel, of which the first are not known here.
    groups = kernel.shape[2] if node.type.startswith("Depthwise") else None
    return Operation("Conv", (0, 1), {**moves, "number_groups": groups}, (_order(node), "+CK"))


def _conv_transpose(node: SourceNode, inputs: Inputs) -> Operation | None:
    moves = _moves(node)
    if moves is None or inputs.integers(0) is None:
        return None
    return Operation("ConvTranspose", (2, 1, 0), moves, (_order(node), "+KC"))


def _pool(node: SourceNode, inputs: Inputs) -> Operation | None:
    moves, kernel = _moves(node), _inner(node, "ksize")
    if moves is None or not kernel:
        return None
    function = "max" if node.type == "MaxPool" else "avg"
    return Operation("Pool", (0,), {**moves, "func": function, "kernel": kernel}, (_order(node),))


def _matmul(node: SourceNode, inputs: Inputs) -> Operation:
    orders = ("CN" if flag(node, "transpose_a") else "NC", "KC" if flag(node, "transpose_b") else "CK")
    return Operation("FullyConnected", (0, 1), {}, orders)


def _bias(node: SourceNode, inputs: Inputs) -> Operation | None:
    if channels_last(node):
        return Operation("Binary", (0, 1), {"func": "add"})
    bias = inputs.value(1)
    if bias is None:
        return None
    return Operation("Binary", (0, inputs.added("bias", bias.reshape(-1, 1, 1))), {"func": "add"})


def _batch_norm(node: SourceNode, inputs: Inputs) -> Operation | None:
    if flag(node, "is_training", True):
        return None
    return Operation("BatchNorm", range(5), {"epsilon": number(node, "epsilon", 1e-4)}, (_order(node),))


def _lrn(node: SourceNode, inputs: Inputs) -> Operation:
    """As the converter wrote it, which readers know: the radius, and an alpha that is not divided by the window."""
    fields = {"window_size": integer(node, "depth_radius", 5), "alpha": number(node, "alpha", 1.0),
              "beta": number(node, "beta", 0.5), "k": number(node, "bias", 1.0)}  # fmt: skip
    return Operation("LRN", (0,), fields, ("N+C",))


def _reduce(node: SourceNode, inputs: Inputs) -> Operation | None:
    axes = inputs.integers(1)
    if not axes:
        return None
    kept = flag(node, "keep_dims", flag(node, "keepdims"))
    return Operation("Reduce", (0,), {"func": node.type.lower(), "axes": axes, "keepdims": kept})


def _transpose(node: SourceNode, inputs: Inputs) -> Operation | None:
    permutation = inputs.integers(1)
    return None if permutation is None else Operation("Transpose", (0,), {"permutation": permutation})


def _by_axis(operation: str, data: Callable[[int], Sequence[int]], place: int) -> Rule:
    """Operations whose axis is an input in TensorFlow and a field in UFF."""

    def rule(node: SourceNode, inputs: Inputs) -> Operation | None:
        count = inputs.count - 1  # without the axis
        axis = inputs.integers(place if place >= 0 else count)
        if axis is None or len(axis) != 1 or node.attrs.get("output_type", "int64") != "int64":
            return None
        return Operation(operation, data(count), {"axis": axis[0]})

    return rule


def _stack(node: SourceNode, inputs: Inputs) -> Operation:
    return Operation("Stack", range(inputs.count), {"axis": integer(node, "axis", 0)})


def _shape(node: SourceNode, inputs: Inputs) -> Operation | None:
    return Operation("Shape", (0,)) if node.attrs.get("out_type", "int32") == "int32" else None


def _slice(node: SourceNode, inputs: Inputs) -> Operation | None:
    if integer(node, "ellipsis_mask", 0) or integer(node, "new_axis_mask", 0):
        return None
    masks = {name: integer(node, name, 0) for name in ("begin_mask", "end_mask", "shrink_axis_mask")}
    return Operation("StridedSlice", range(4), masks)


def _squeeze(node: SourceNode, inputs: Inputs) -> Operation:
    return Operation("Squeeze", (0,), {"axes": numbers(node, "squeeze_dims", numbers(node, "axis", ()))})


def _pad(node: SourceNode, inputs: Inputs) -> Operation | None:
    return None if inputs.integers(1) is None else Operation("Pad", (0, 1))


def _gather(node: SourceNode, inputs: Inputs) -> Operation | None:
    types = {"indices_dtype": node.attrs.get("Tindices"), "params_dtype": node.attrs.get("Tparams")}
    types = {name: value for name, value in types.items() if isinstance(value, Dtype)}
    if node.type == "Gather":
        return Operation("Gather", (0, 1), {**types, "validate_indices": flag(node, "validate_indices", True)})
    axis = inputs.integers(2)
    if axis is None or len(axis) != 1 or integer(node, "batch_dims", 0):
        return None
    return Operation("GatherV2", (0, 1), {**types, "axis": axis[0]})


def _leaky(node: SourceNode, inputs: Inputs) -> Operation:
    return Operation("LeakyRelu", (0,), {"alpha": number(node, "alpha", 0.2)})


RULES: dict[str, Rule] = {
    **{op: _named("Activation", op.lower(), (0,))
       for op in ("Relu", "Relu6", "Sigmoid", "Tanh", "Elu", "Selu", "Softsign", "Softplus")},
    **{op: _named("Binary", function, (0, 1)) for op, function in {
        "Add": "add", "AddV2": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "RealDiv": "div", "Minimum": "min",
        "Maximum": "max", "Pow": "pow"}.items()},
    **{op: _named("Unary", op.lower(), (0,)) for op in (
        "Neg", "Exp", "Log", "Abs", "Sqrt", "Rsqrt", "Square", "Sin", "Cos", "Tan", "Sinh", "Cosh", "Asin", "Acos",
        "Atan", "Asinh", "Acosh", "Atanh", "Ceil", "Floor")},
    **dict.fromkeys(("Sum", "Prod", "Min", "Max", "Mean"), _reduce),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), _conv),
    **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), _batch_norm),
    **dict.fromkeys(("Gather", "GatherV2"), _gather),
    "ArgMax": _by_axis("ArgMax", lambda count: (0,), 1),
    "ArgMin": _by_axis("ArgMin", lambda count: (0,), 1),
    "BiasAdd": _bias,
    "ConcatV2": _by_axis("Concat", range, -1),
    "Conv2DBackpropInput": _conv_transpose,
    "ExpandDims": _by_axis("ExpandDims", lambda count: (0,), 1),
    "LRN": _lrn,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Pack": _stack,
    "Pad": _pad,
    "Reshape": _named("Reshape", None, (0, 1)),
    "Shape": _shape,
    "Softmax": lambda node, inputs: Operation("Softmax", (0,), {"axis": 0}, ("N+C",)),
    "Squeeze": _squeeze,
    "StridedSlice": _slice,
    "Transpose": _transpose,
}  # fmt: skip
