"""Pointwise layers as C expressions of values: floats in single precision, integers in 64 bits, truth values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isnan, pi, sqrt

from tenonrt.contracts import BYTES, FLOAT8, Problem, ProblemLayer, is_float

from tenonrt_kernel_nvrtc.storage import C_TYPES, ROUNDING, value_type

KINDS = frozenset({"Activation", "Elementwise", "Unary", "Select", "Cast"})
# Between real numbers and bytes, by one scale for the whole tensor.
QUANTIZING = frozenset({"Quantize", "Dequantize"})
_LIMITS = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}


def literal(value: float | bool) -> str:
    """A number as C writes it in single precision."""
    value = float(value)
    if isnan(value):
        return "__int_as_float(0x7fc00000)"
    if value in (float("inf"), float("-inf")):
        return "infinity()" if value > 0 else "(-infinity())"
    return f"{value!r}f"


def constant(dtype: str, value: float | bool) -> str:
    """A number as a value of an element type."""
    if dtype == "bool":
        return "true" if value else "false"
    return literal(value) if is_float(dtype) else f"{int(value)}ll"


_SIGMOID = "(1.f / (1.f + expf(-({0}))))"
# The defaults are ONNX's.
_DEFAULTS = {
    "leaky_relu": (0.01, None), "elu": (1.0, None), "selu": (1.67326319217681884765625, 1.05070102214813232421875),
    "celu": (1.0, None), "softplus": (1.0, 1.0), "hard_sigmoid": (0.2, 0.5), "scaled_tanh": (1.0, 1.0),
    "thresholded_relu": (1.0, None), "swish": (1.0, None), "hard_swish": (1 / 6, 0.5), "shrink": (0.5, 0.0),
}  # fmt: skip
_ACTIVATIONS = {
    "relu": "larger({0}, 0.f)",
    "sigmoid": _SIGMOID,
    "tanh": "tanhf({0})",
    "leaky_relu": "({0} >= 0.f ? {0} : {1} * {0})",
    "elu": "({0} > 0.f ? {0} : {1} * expm1f({0}))",
    "selu": "({2} * ({0} > 0.f ? {0} : {1} * expm1f({0})))",
    "celu": "({0} > 0.f ? {0} : {1} * expm1f({0} / {1}))",
    "softsign": "({0} / (1.f + fabsf({0})))",
    "softplus": "({1} * (fmaxf({2} * {0}, 0.f) + log1pf(expf(-fabsf({2} * {0})))))",
    "hard_sigmoid": "larger(0.f, smaller(1.f, {1} * {0} + {2}))",
    "scaled_tanh": "({1} * tanhf({2} * {0}))",
    "thresholded_relu": "({0} > {1} ? {0} : 0.f)",
    "gelu": f"(0.5f * {{0}} * (1.f + erff({{0}} * {sqrt(0.5)!r}f)))",
    "gelu_tanh": f"(0.5f * {{0}} * (1.f + tanhf({sqrt(2 / pi)!r}f * ({{0}} + 0.044715f * {{0}} * {{0}} * {{0}}))))",
    "swish": "({0} / (1.f + expf(-({1} * {0}))))",
    "hard_swish": "({0} * larger(0.f, smaller(1.f, {1} * {0} + {2})))",
    "mish": "({0} * tanhf(fmaxf({0}, 0.f) + log1pf(expf(-fabsf({0})))))",
    "shrink": "({0} < -{1} ? {0} + {2} : ({0} > {1} ? {0} - {2} : 0.f))",
}
FUNCTIONS = frozenset(_ACTIVATIONS) | {"clip"}
# Where results are halves, with approximations of the hardware that are wrong by 1e-6: a third of the instructions.
QUICK = {"sigmoid": "sigmoid_of({0})", "swish": "({0} * sigmoid_of({1} * {0}))"}
_FLOAT_BINARY = {
    "sum": "({0} + {1})", "prod": "({0} * {1})", "sub": "({0} - {1})", "div": "({0} / {1})",
    "max": "larger({0}, {1})", "min": "smaller({0}, {1})",  # of a NaN these are NaN
    "pow": "powf({0}, {1})",
}  # fmt: skip
_INTEGER_BINARY = {
    "sum": "({0} + {1})", "prod": "({0} * {1})", "sub": "({0} - {1})",
    "max": "({0} > {1} ? {0} : {1})", "min": "({0} < {1} ? {0} : {1})",
}  # fmt: skip
_BOOLEAN_BINARY = {"and": "({0} && {1})", "or": "({0} || {1})", "xor": "({0} != {1})"}
_COMPARISONS = {"equal": "==", "greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<="}
_UNARY = {
    "exp": "expf({0})", "log": "logf({0})", "sqrt": "sqrtf({0})", "recip": "(1.f / {0})", "sin": "sinf({0})",
    "cos": "cosf({0})", "tan": "tanf({0})", "asin": "asinf({0})", "acos": "acosf({0})", "atan": "atanf({0})",
    "sinh": "sinhf({0})", "cosh": "coshf({0})", "asinh": "asinhf({0})", "acosh": "acoshf({0})", "atanh": "atanhf({0})",
    "ceil": "ceilf({0})", "floor": "floorf({0})", "round": "rintf({0})", "erf": "erff({0})", "abs": "fabsf({0})",
    "neg": "(-{0})", "is_nan": "({0} != {0})",
    "sign": "({0} != {0} ? {0} : (float)(({0} > 0.f) - ({0} < 0.f)))",
}  # fmt: skip


def refusal(problem: Problem, layer: ProblemLayer) -> str:
    """Why a layer is none of these; empty when it is one."""
    types = [problem.types[i] for i in (*layer.inputs, *layer.outputs) if i >= 0]
    other = next((t for t in types if t.dtype not in C_TYPES), None)
    if layer.kind not in KINDS | QUANTIZING or other is not None or len(layer.outputs) != 1:
        return f"{layer.kind} of {other.dtype}" if other is not None else f"{layer.kind} is not pointwise"
    if layer.kind not in QUANTIZING | {"Cast", "Select"} and any(t.dtype == FLOAT8 for t in types):
        return f"{layer.kind} of {FLOAT8}, which is not for computing"
    return "" if _template(problem, layer) else f"{layer.kind} {_name(layer)} of {types[0].dtype}"


def expression(problem: Problem, layer: ProblemLayer, values: Mapping[int, str]) -> str:
    """A layer's result; ``values``: C names of what it reads."""
    template = _template(problem, layer)
    assert template is not None, layer
    return template(*(values[i] for i in layer.inputs if i >= 0))


def _name(layer: ProblemLayer) -> str:
    return str(getattr(layer.attrs, "operation", getattr(layer.attrs, "function", "")))


def _template(problem: Problem, layer: ProblemLayer) -> Callable[..., str] | None:
    first = problem.types[layer.inputs[0]].dtype
    if layer.kind in QUANTIZING:
        return _quantizing(problem, layer)
    if layer.kind == "Select":
        return "({0} ? {1} : {2})".format
    if layer.kind == "Cast":
        return _cast(first, layer.attrs.to)
    if layer.kind == "Activation":
        return _activation(layer) if is_float(first) else None
    if layer.kind == "Unary":
        if layer.attrs.operation == "not":
            return "(!{0})".format
        text = _UNARY.get(layer.attrs.operation)
        return text.format if text and is_float(first) else None
    return _binary(layer.attrs.operation, first, problem.types[layer.inputs[1]].dtype)


def quantized(problem: Problem, layer: ProblemLayer, value: str, inverse: str, zero: str) -> str:
    """A Quantize layer's result by the inverse of its scale."""
    template = _quantizing(problem, layer, "{0} * {1}")
    assert template is not None, layer
    return template(f"({value})", inverse, zero)


def _quantizing(problem: Problem, layer: ProblemLayer, quotient: str = "{0} / {1}") -> Callable[..., str] | None:
    """The quotient is rounded to even before a zero point is added; a NaN becomes 0."""
    real, stored = layer.inputs[0], layer.outputs[0]
    if layer.kind == "Dequantize":
        real, stored = stored, real
    types, scale = problem.types, layer.inputs[1]
    if types[stored].dtype not in BYTES or types[real].dtype != "float32" or types[scale].dtype != "float32":
        return None
    if types[scale].size != 1 or layer.attrs.block:
        return None
    shifted = len(layer.inputs) > 2 and layer.inputs[2] >= 0
    if types[stored].dtype == FLOAT8 and (shifted or not getattr(layer.attrs, "saturate", True)):
        return None
    if layer.kind == "Dequantize":
        return ("((float)({0} - {2}) * {1})" if shifted else "((float){0} * {1})").format
    if types[stored].dtype == FLOAT8:  # the conversion rounds and saturates, NaN stays
        return f"to_float(to_e4m3({quotient}))".format
    low, high = map(literal, _LIMITS[types[stored].dtype])
    steps = f"rintf({quotient}) + (float){{2}}" if shifted else f"rintf({quotient})"
    return f"({{0}} != {{0}} ? 0ll : (long long)larger(smaller({steps}, {high}), {low}))".format


def _cast(source: str, target: str) -> Callable[..., str] | None:
    if target not in C_TYPES or target in BYTES:
        return None
    if target == "bool":
        return "({0} != 0)".format
    if target in ROUNDING and source != target:
        return f"to_float({ROUNDING[target]}((float){{0}}))".format
    if target == "int32":
        return "(long long)(int)({0})".format
    return f"(({value_type(target)}){{0}})".format


def _activation(layer: ProblemLayer) -> Callable[..., str] | None:
    attrs = layer.attrs
    if attrs.function == "clip":
        text = "{0}"
        if attrs.alpha is not None:
            text = f"larger({text}, {literal(attrs.alpha)})"
        if attrs.beta is not None:
            text = f"smaller({text}, {literal(attrs.beta)})"
        return text.format
    chosen, given = _ACTIVATIONS.get(attrs.function), parameters(layer)
    return None if chosen is None else lambda x: chosen.format(x, *given)


def parameters(layer: ProblemLayer) -> list[str]:
    """Alpha and beta of an activation as literals, those of ONNX where it has none."""
    defaults = _DEFAULTS.get(layer.attrs.function, (None, None))
    values = [d if v is None else v for v, d in zip((layer.attrs.alpha, layer.attrs.beta), defaults, strict=True)]
    return [literal(v) if v is not None else "" for v in values]


def _binary(operation: str, first: str, second: str) -> Callable[..., str] | None:
    if value_type(first) != value_type(second):
        return None
    if operation in _COMPARISONS:
        return f"({{0}} {_COMPARISONS[operation]} {{1}})".format
    table = _FLOAT_BINARY if is_float(first) else _BOOLEAN_BINARY if first == "bool" else _INTEGER_BINARY
    text = table.get(operation)
    return text.format if text else None
