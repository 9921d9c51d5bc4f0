"""Layers that compute each element by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tenonrt.contracts import TensorType, UnsupportedError, is_float

from tenonrt_parser_onnx.exporting.node import Writer, code, flag
from tenonrt_parser_onnx.exporting.rules.custom import custom

_UNARY = {
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "recip": "Reciprocal", "abs": "Abs", "neg": "Neg", "sin": "Sin",
    "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "ceil": "Ceil", "floor": "Floor", "round": "Round",
    "sign": "Sign", "erf": "Erf", "not": "Not", "bitwise_not": "BitwiseNot", "is_nan": "IsNaN", "is_inf": "IsInf",
}  # fmt: skip
_BINARY = {
    "sum": "Add", "prod": "Mul", "max": "Max", "min": "Min", "sub": "Sub", "div": "Div", "pow": "Pow",
    "equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less",
    "less_equal": "LessOrEqual", "and": "And", "or": "Or", "xor": "Xor", "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor",
}  # fmt: skip
# Activations that are one operator: its name, and what it calls alpha and beta.
_ACTIVATIONS: dict[str, tuple[str, str | None, str | None]] = {
    "relu": ("Relu", None, None), "sigmoid": ("Sigmoid", None, None), "tanh": ("Tanh", None, None),
    "softsign": ("Softsign", None, None), "mish": ("Mish", None, None), "leaky_relu": ("LeakyRelu", "alpha", None),
    "elu": ("Elu", "alpha", None), "celu": ("Celu", "alpha", None), "selu": ("Selu", "alpha", "gamma"),
    "thresholded_relu": ("ThresholdedRelu", "alpha", None), "hard_sigmoid": ("HardSigmoid", "alpha", "beta"),
    "shrink": ("Shrink", "lambd", "bias"),
}  # fmt: skip


def _unary(w: Writer) -> None:
    operation = w.attrs.operation
    signs: dict[str, Any] = {}
    if operation == "is_inf":
        signs = {"detect_positive": flag(w.attrs.detect_positive), "detect_negative": flag(w.attrs.detect_negative)}
    w.node(_UNARY[operation], w.inputs, **signs)


def _elementwise(w: Writer) -> None:
    operation, dtype = w.attrs.operation, w.tensor(0).type.dtype
    if operation in _BINARY:
        w.node(_BINARY[operation], w.inputs)
    elif operation in ("shift_left", "shift_right") and dtype.startswith("int"):
        custom(w)  # ONNX shifts unsigned integers only
    elif operation in ("shift_left", "shift_right"):
        w.node("BitShift", w.inputs, direction=operation.removeprefix("shift_").upper())
    elif operation == "fmod" or (operation == "mod" and not is_float(dtype)):
        w.node("Mod", w.inputs, fmod=flag(operation == "fmod"))
    elif is_float(dtype):
        quotient = w.part("Floor", [w.part("Div", w.inputs)])
        if operation == "floor_div":
            w.node("Identity", [quotient])
        else:
            w.node("Sub", [w.input(0), w.part("Mul", [quotient, w.input(1)])])
    else:
        # The remainder has the divisor's sign, so what is left divides without one.
        whole = w.part("Sub", [w.input(0), w.part("Mod", w.inputs, fmod=0)])
        w.node("Div", [whole, w.input(1)])


def _activation(w: Writer) -> None:
    function, alpha, beta = w.attrs.function, w.attrs.alpha, w.attrs.beta
    if function in _ACTIVATIONS:
        operator, first, second = _ACTIVATIONS[function]
        parameters = {name: value for name, value in ((first, alpha), (second, beta)) if name is not None}
        w.node(operator, w.inputs, **parameters)
    else:
        _COMPOSED[function](w, alpha, beta)


def _clip(w: Writer, alpha: float | None, beta: float | None) -> None:
    dtype = w.output
    limits = ["" if limit is None else w.constant(_within(limit, dtype.numpy), dtype) for limit in (alpha, beta)]
    w.node("Clip", [w.input(0), *limits])


def _within(limit: float, dtype: np.dtype[Any]) -> float:
    """A bound that an integer type can hold."""
    if dtype.kind not in "iu":
        return limit
    info = np.iinfo(dtype)
    return min(max(limit, info.min), info.max)


def _softplus(w: Writer, alpha: float | None, beta: float | None) -> None:
    x = w.input(0)
    x = x if beta in (None, 1.0) else w.part("Mul", [x, w.constant(beta, w.output)])
    if alpha in (None, 1.0):
        w.node("Softplus", [x])
    else:
        w.node("Mul", [w.part("Softplus", [x]), w.constant(alpha, w.output)])


def _scaled_tanh(w: Writer, alpha: float | None, beta: float | None) -> None:
    inner = w.part("Mul", [w.input(0), w.constant(1.0 if beta is None else beta, w.output)])
    w.node("Mul", [w.part("Tanh", [inner]), w.constant(1.0 if alpha is None else alpha, w.output)])


def _swish(w: Writer, alpha: float | None, beta: float | None) -> None:
    x = w.input(0)
    inner = x if alpha in (None, 1.0) else w.part("Mul", [x, w.constant(alpha, w.output)])
    w.node("Mul", [x, w.part("Sigmoid", [inner])])


def _hard_swish(w: Writer, alpha: float | None, beta: float | None) -> None:
    if alpha is None and beta is None:
        w.node("HardSwish", w.inputs)
        return
    gate = w.part("HardSigmoid", w.inputs, alpha=1 / 6 if alpha is None else alpha, beta=0.5 if beta is None else beta)
    w.node("Mul", [w.input(0), gate])


_COMPOSED: dict[str, Callable[[Writer, float | None, float | None], None]] = {
    "clip": _clip,
    "softplus": _softplus,
    "scaled_tanh": _scaled_tanh,
    "swish": _swish,
    "hard_swish": _hard_swish,
    "gelu": lambda w, alpha, beta: w.node("Gelu", w.inputs),
    "gelu_tanh": lambda w, alpha, beta: w.node("Gelu", w.inputs, approximate="tanh"),
}


def scale(w: Writer) -> None:
    """x * scale + shift, to a power."""
    steps = [(operator, index) for operator, index in (("Mul", 2), ("Add", 1), ("Pow", 3)) if w.given(index)]
    x = w.input(0)
    for position, (operator, index) in enumerate(steps):
        operands = [x, _aligned(w, index)]
        if position == len(steps) - 1:
            w.node(operator, operands)
        else:
            x = w.part(operator, operands)
    if not steps:
        w.node("Identity", [x])


def _aligned(w: Writer, index: int) -> str:
    """A parameter in a shape that broadcasts as the mode says."""
    name, rank = w.input(index), w.output.rank
    if w.attrs.mode == "elementwise":
        return name
    behind = rank - 1 - w.attrs.axis % rank if w.attrs.mode == "channel" else 0
    if w.attrs.mode == "channel" and not behind:
        return name
    return w.part("Reshape", [name, w.constant([-1, *[1] * behind] if w.attrs.mode == "channel" else [])])


def _cast(w: Writer) -> None:
    """Saturation is a question of eight-bit floats alone."""
    saturate = 0 if w.attrs.to.startswith("float8") and not w.attrs.saturate else None
    w.node("Cast", w.inputs, to=code(w.attrs.to), saturate=saturate)


def _batch_normalization(w: Writer) -> None:
    w.node("BatchNormalization", w.inputs, epsilon=w.attrs.epsilon)


def layer_normalization(w: Writer) -> None:
    """The scale, which ONNX wants, is one where there is none."""
    inputs = w.inputs
    if not w.input(1):
        shape = w.tensor(0).type.shape[w.attrs.axis :]
        sizes = [size if isinstance(size, int) else 1 for size in shape]
        inputs = [w.input(0), w.constant(np.ones(sizes), w.output), *inputs[2:]]
    w.node("LayerNormalization", inputs, axis=w.attrs.axis, epsilon=w.attrs.epsilon)


def _rms_normalization(w: Writer) -> None:
    inputs = w.inputs if w.input(1) else [w.input(0), w.constant(np.ones(1), w.output)]
    w.node("RMSNormalization", inputs, axis=w.attrs.axis, epsilon=w.attrs.epsilon)


def group_normalization(w: Writer) -> None:
    """Parameters are per channel since operator set 21; absent ones are ones and zeros."""
    channels, parameters = w.tensor(0).type.shape[1], [w.input(1), w.input(2)]
    if not all(parameters) and not isinstance(channels, int):
        raise UnsupportedError(f"its parameters are absent, and its channels unknown: {w.tensor(0).type}", [])
    for place, value in enumerate((1, 0)):
        parameters[place] = parameters[place] or w.constant(np.full(channels, value), w.output)
    w.node(
        "GroupNormalization", [w.input(0), *parameters], since=21, num_groups=w.attrs.groups, epsilon=w.attrs.epsilon
    )


def quantize(w: Writer) -> None:
    """Without a zero point, one of zeros says the type."""
    w.node(
        "QuantizeLinear", _zeroed(w, w.attrs.dtype), since=_since(w), axis=w.attrs.axis,
        block_size=w.attrs.block or None, saturate=None if w.attrs.saturate else 0,
    )  # fmt: skip


def _dequantize(w: Writer) -> None:
    since, other = _since(w), None
    if w.attrs.dtype != w.tensor(1).type.dtype:
        since, other = 23, code(w.attrs.dtype)
    w.node("DequantizeLinear", w.inputs, since=since, axis=w.attrs.axis, block_size=w.attrs.block or None,
           output_dtype=other)  # fmt: skip


def _since(w: Writer) -> int:
    """Blocks and sixteen-bit types came with operator set 21."""
    types = {w.tensor(0).type.dtype, w.output.dtype}
    return 21 if w.attrs.block or types & {"int16", "uint16"} else 19


def _zeroed(w: Writer, dtype: str) -> list[str]:
    if w.input(2):
        return w.inputs
    scale = w.tensor(1).type
    sizes = [size for size in scale.shape if isinstance(size, int)]
    return [w.input(0), w.input(1), w.constant(np.zeros(sizes), TensorType(scale.shape, dtype))]


RULES: dict[str, Callable[[Writer], None]] = {
    "Activation": _activation,
    "BatchNormalization": _batch_normalization,
    "Bitcast": lambda w: w.node("BitCast", w.inputs, to=code(w.attrs.to)),
    "Cast": _cast,
    "Dequantize": _dequantize,
    "Elementwise": _elementwise,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": lambda w: w.node("InstanceNormalization", w.inputs, epsilon=w.attrs.epsilon),
    "LayerNormalization": layer_normalization,
    "LpNormalization": lambda w: w.node("LpNormalization", w.inputs, axis=w.attrs.axis, p=w.attrs.p),
    "ParametricRelu": lambda w: w.node("PRelu", w.inputs),
    "Quantize": quantize,
    "RmsNormalization": _rms_normalization,
    "Scale": scale,
    "Select": lambda w: w.node("Where", w.inputs),
    "Unary": _unary,
}
