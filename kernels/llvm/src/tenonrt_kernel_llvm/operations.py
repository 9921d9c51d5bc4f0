"""The pointwise layers on vectors in registers: activations, unary and binary operations, select and cast.

Parameters have the meaning and the defaults of ONNX's operators, as the layers' references do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tenonrt.contracts import Problem, ProblemLayer

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import FLOAT, I1, I8, I32, I64, Function, Value, element_of, is_float, lanes_of, vector

Activation = Callable[[Function, Value, Any, Any], Value]

# Element types that vectors may have: how they lie in memory. In registers a bool is an i1.
MEMORY = {"float32": FLOAT, "int32": I32, "int64": I64, "bool": I8, "int8": I8, "uint8": I8}
# Of these only Quantize and Dequantize layers know whether they have a sign.
BYTES = frozenset({"int8", "uint8"})
LIMITS = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}
REGISTER = {**MEMORY, "bool": I1}


def _max(fn: Function, a: Value, b: Value) -> Value:
    """As NumPy's maximum: NaN when either is."""
    if not is_float(a.type):
        return fn.select(fn.compare("slt", a, b), b, a)
    return fn.select(m.is_nan(fn, b), b, m.maximum(fn, a, b))


def _min(fn: Function, a: Value, b: Value) -> Value:
    if not is_float(a.type):
        return fn.select(fn.compare("sgt", a, b), b, a)
    return fn.select(m.is_nan(fn, b), b, m.minimum(fn, a, b))


def _relu(fn: Function, x: Value, alpha: Any = None, beta: Any = None) -> Value:
    return fn.select(fn.compare("olt" if is_float(x.type) else "slt", x, 0), fn.zero(x.type), x)


def _clip(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    if alpha is not None:
        x = m.maximum(fn, x, fn.constant(x.type, alpha))
    return x if beta is None else m.minimum(fn, x, fn.constant(x.type, beta))


def _expm1(fn: Function, x: Value) -> Value:
    """exp(x) - 1 for x <= 0, exact near zero by a polynomial."""
    p = m.polynomial(fn, x, [1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0])
    return fn.select(fn.compare("ogt", x, -0.35), p * x, m.exp(fn, x) - 1.0)


def _elu(fn: Function, x: Value, alpha: Any, beta: Any = None) -> Value:
    return fn.select(fn.compare("ogt", x, 0.0), x, _expm1(fn, _min(fn, x, fn.zero(x.type))) * alpha)


def _celu(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    zero = fn.zero(x.type)
    return fn.select(fn.compare("ogt", x, 0.0), x, _expm1(fn, _min(fn, x * (1.0 / alpha), zero)) * alpha)


def _softplus(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    """alpha * (max(bx, 0) + log(1 + exp(-|bx|)))."""
    scaled = x * beta
    decay = m.exp(fn, -m.absolute(fn, scaled))
    total: Value = (_relu(fn, scaled) + _log1p(fn, decay)) * alpha
    return total


def _log1p(fn: Function, x: Value) -> Value:
    """log(1 + x) for 0 <= x <= 1, corrected for what 1 + x rounds away (Kahan)."""
    u = x + 1.0
    safe = fn.select(fn.compare("oeq", u, 1.0), fn.constant(x.type, 2.0), u)
    return fn.select(fn.compare("oeq", u, 1.0), x, m.log(fn, safe) * (x / (safe - 1.0)))


def _hard_sigmoid(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    return _clip(fn, fn.fma(x, fn.constant(x.type, alpha), fn.constant(x.type, beta)), 0.0, 1.0)


def _shrink(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    low, high = fn.compare("olt", x, -alpha), fn.compare("ogt", x, alpha)
    return fn.select(low, x + beta, fn.select(high, x - beta, fn.zero(x.type)))


def _gelu(fn: Function, x: Value, alpha: Any = None, beta: Any = None) -> Value:
    half = x * 0.5
    return fn.fma(half, m.erf(fn, x * math.sqrt(0.5)), half)


def _gelu_tanh(fn: Function, x: Value, alpha: Any = None, beta: Any = None) -> Value:
    half = x * 0.5
    inner = x * math.sqrt(2 / math.pi) * fn.fma(x * x, fn.constant(x.type, 0.044715), fn.constant(x.type, 1.0))
    return fn.fma(half, m.tanh(fn, inner), half)


_LEAST_FACTOR = 1e-30  # of a swish, below which it is half the identity


def _swish(fn: Function, x: Value, alpha: Any, beta: Any) -> Value:
    factor = 1.0 if alpha is None else alpha
    if abs(factor) < _LEAST_FACTOR:
        return x * 0.5
    return m.product_with_sigmoid(fn, x, factor)


# name: (function, default alpha, default beta)
ACTIVATIONS: dict[str, tuple[Activation, float | None, float | None]] = {
    "relu": (_relu, None, None),
    "sigmoid": (lambda fn, x, a, b: m.sigmoid(fn, x), None, None),
    "tanh": (lambda fn, x, a, b: m.tanh(fn, x), None, None),
    "leaky_relu": (lambda fn, x, a, b: fn.select(fn.compare("olt", x, 0.0), x * a, x), 0.01, None),
    "elu": (_elu, 1.0, None),
    "selu": (lambda fn, x, a, b: _elu(fn, x, a) * b, 1.67326319217681884765625, 1.05070102214813232421875),
    "celu": (_celu, 1.0, None),
    "softsign": (lambda fn, x, a, b: x / (m.absolute(fn, x) + 1.0), None, None),
    "softplus": (_softplus, 1.0, 1.0),
    "clip": (_clip, None, None),
    "hard_sigmoid": (_hard_sigmoid, 0.2, 0.5),
    "scaled_tanh": (lambda fn, x, a, b: m.tanh(fn, x * b) * a, 1.0, 1.0),
    "thresholded_relu": (lambda fn, x, a, b: fn.select(fn.compare("ogt", x, a), x, fn.zero(x.type)), 1.0, None),
    "gelu": (_gelu, None, None),
    "gelu_tanh": (_gelu_tanh, None, None),
    "swish": (_swish, 1.0, None),
    "hard_swish": (lambda fn, x, a, b: x * _hard_sigmoid(fn, x, a, b), 1 / 6, 0.5),
    "mish": (lambda fn, x, a, b: x * m.tanh(fn, _softplus(fn, x, 1.0, 1.0)), None, None),
    "shrink": (_shrink, 0.5, 0.0),
}


def _power(fn: Function, a: Value, b: Value) -> Value:
    """|a| ** b by exp(b * log|a|), with the signs that IEEE's pow gives integers; within 1e-5 of the result."""
    magnitude = m.absolute(fn, a)
    one = fn.constant(a.type, 1.0)
    # IEEE: one to any power is one, NaN and infinities included.
    size = fn.select(fn.compare("oeq", magnitude, 1.0), one, m.exp(fn, b * m.log(fn, magnitude)))
    whole = fn.intrinsic("floor", b.type, [b])
    integer = fn.compare("oeq", whole, b)
    halved = b * 0.5
    odd = fn.binary("and", integer, fn.compare("one", fn.intrinsic("floor", b.type, [halved]), halved))
    finite = fn.compare("olt", magnitude, math.inf)
    negative = fn.binary("and", fn.compare("olt", a, 0.0), finite)
    signed = fn.select(odd, m.copy_sign(fn, size, a), size)
    signed = fn.select(negative, fn.select(integer, signed, fn.constant(a.type, math.nan)), signed)
    return fn.select(fn.compare("oeq", b, 0.0), one, signed)


def constant_power(fn: Function, a: Value, exponent: float) -> Value:
    """a ** exponent for a known exponent: roots and small powers without logarithms."""
    if exponent == 1:
        return a
    if exponent == 2:
        return a * a
    if exponent == 3:
        return a * a * a
    if exponent == 0.5:
        return m.square_root(fn, a)
    if exponent == -1:
        return fn.constant(a.type, 1.0) / a
    if exponent == -0.5:
        return fn.constant(a.type, 1.0) / m.square_root(fn, a)
    if exponent == 0.75:  # local response normalization
        root = m.square_root(fn, a)
        return root * m.square_root(fn, root)
    return _power(fn, a, fn.constant(a.type, exponent))


def _compare(floats: str, integers: str) -> Callable[[Function, Value, Value], Value]:
    return lambda fn, a, b: fn.compare(floats if is_float(a.type) else integers, a, b)


BINARY: dict[str, Callable[[Function, Value, Value], Value]] = {
    "sum": lambda fn, a, b: a + b,
    "prod": lambda fn, a, b: a * b,
    "max": _max,
    "min": _min,
    "sub": lambda fn, a, b: a - b,
    "div": lambda fn, a, b: a / b,
    "pow": _power,
    "equal": _compare("oeq", "eq"),
    "greater": _compare("ogt", "sgt"),
    "greater_equal": _compare("oge", "sge"),
    "less": _compare("olt", "slt"),
    "less_equal": _compare("ole", "sle"),
    "and": lambda fn, a, b: fn.binary("and", a, b),
    "or": lambda fn, a, b: fn.binary("or", a, b),
    "xor": lambda fn, a, b: fn.binary("xor", a, b),
}
_FLOATS_ONLY = {"div", "pow"}


def _sign(fn: Function, x: Value) -> Value:
    one = fn.constant(x.type, 1.0)
    return fn.select(fn.compare("ogt", x, 0.0), one, fn.select(fn.compare("olt", x, 0.0), -one, x))


UNARY: dict[str, Callable[[Function, Value], Value]] = {
    "exp": m.exp,
    "log": m.log,
    "sqrt": m.square_root,
    "recip": lambda fn, x: fn.constant(x.type, 1.0) / x,
    "abs": m.absolute,
    "neg": lambda fn, x: -x,
    "sign": _sign,
    "erf": m.erf,
    "ceil": lambda fn, x: fn.intrinsic("ceil", x.type, [x]),
    "floor": lambda fn, x: fn.intrinsic("floor", x.type, [x]),
    "round": lambda fn, x: fn.intrinsic("roundeven", x.type, [x]),
    "is_nan": m.is_nan,
    "not": lambda fn, x: fn.binary("xor", x, fn.constant(x.type, -1)),
}


def refusal(problem: Problem, layer: ProblemLayer) -> str:
    """Why a layer cannot be computed in registers; empty when it can."""
    dtypes = {problem.types[t].dtype for t in (*layer.inputs, *layer.outputs) if t >= 0}
    if not dtypes <= set(MEMORY):
        return f"{layer.kind} of {', '.join(sorted(dtypes - set(MEMORY)))}"
    if layer.kind in ("Quantize", "Dequantize", "Saturate"):
        return _quantization_refusal(problem, layer)
    if dtypes & BYTES:
        return f"{layer.kind} of bytes"
    floats = dtypes <= {"float32", "bool"} and problem.types[layer.inputs[0]].dtype == "float32"
    attrs, kind = layer.attrs, layer.kind
    if kind == "Activation":
        known = attrs.function in ACTIVATIONS and (
            attrs.function != "scaled_tanh" or None not in (attrs.alpha, attrs.beta)
        )
        return "" if known and floats else f"the activation {attrs.function} of {', '.join(sorted(dtypes))}"
    if kind == "Elementwise":
        fits = floats or attrs.operation not in _FLOATS_ONLY
        fits = fits and len({problem.types[t].dtype for t in layer.inputs}) == 1
        return (
            ""
            if attrs.operation in BINARY and fits
            else f"the operation {attrs.operation} of {', '.join(sorted(dtypes))}"
        )
    if kind == "Unary":
        fits = floats or (attrs.operation == "not" and dtypes == {"bool"})
        return (
            ""
            if attrs.operation in UNARY and fits
            else f"the operation {attrs.operation} of {', '.join(sorted(dtypes))}"
        )
    if kind == "ParametricRelu":
        return "" if floats and dtypes == {"float32"} else f"slopes of {', '.join(sorted(dtypes))}"
    if kind == "Cast":
        return "" if attrs.to in MEMORY else f"a cast to {attrs.to}"
    if kind == "Select":
        return ""
    return f"{kind} is no pointwise layer that is computed in registers"


def _quantization_refusal(problem: Problem, layer: ProblemLayer) -> str:
    real, stored = (layer.inputs[0], layer.outputs[0])[:: -1 if layer.kind == "Dequantize" else 1]
    types, saturates = problem.types, layer.kind == "Saturate"
    scale = types[layer.inputs[1]]
    if (not saturates and layer.attrs.block) or scale.size != 1 or scale.dtype != "float32":
        return f"{layer.kind} with more than one scale"
    dtype = layer.attrs.dtype if saturates else types[stored].dtype
    if types[real].dtype != "float32" or dtype not in BYTES:
        return f"{layer.kind} of {types[real].dtype} and {dtype}"
    return ""


def compute(fn: Function, problem: Problem, layers: Sequence[ProblemLayer], values: dict[int, Value]) -> None:
    """Compute layers in order; ``values`` has a vector for every tensor they read and gains those they write."""
    for layer in layers:
        given = [values[t] for t in layer.inputs if t >= 0]
        values[layer.outputs[0]] = _layer(fn, problem, layer, given)


def scalar_values(problem: Problem) -> Mapping[int, float]:
    """Constants of one element, whose value the problem tells."""
    return {
        i: given.value[0] for i, given in enumerate(problem.inputs) if given.value is not None and len(given.value) == 1
    }


def _layer(fn: Function, problem: Problem, layer: ProblemLayer, given: Sequence[Value]) -> Value:
    attrs = layer.attrs
    if layer.kind == "Activation":
        function, alpha, beta = ACTIVATIONS[attrs.function]
        return function(
            fn, given[0], alpha if attrs.alpha is None else attrs.alpha, beta if attrs.beta is None else attrs.beta
        )
    if layer.kind == "Unary":
        return UNARY[attrs.operation](fn, given[0])
    if layer.kind == "ParametricRelu":
        return fn.select(fn.compare("olt", given[0], 0.0), given[0] * given[1], given[0])
    if layer.kind == "Select":
        return fn.select(given[0], given[1], given[2])
    if layer.kind == "Quantize":
        return quantize(fn, given[0], given[1], given[2] if len(given) > 2 else None, attrs.dtype)
    if layer.kind == "Dequantize":
        dtype = problem.types[layer.inputs[0]].dtype
        return dequantize(fn, given[0], given[1], given[2] if len(given) > 2 else None, dtype)
    if layer.kind == "Saturate":
        return saturate(fn, given[0], given[1], given[2] if len(given) > 2 else None, attrs.dtype)
    if layer.kind == "Cast":
        return cast(fn, given[0], REGISTER[attrs.to])
    exponent = scalar_values(problem).get(layer.inputs[1]) if attrs.operation == "pow" else None
    if exponent is not None:
        return constant_power(fn, given[0], exponent)
    return BINARY[attrs.operation](fn, given[0], given[1])


def cast(fn: Function, x: Value, element: str) -> Value:
    """To another element type: floats truncate to integers, anything but zero is true."""
    source = element_of(x.type)
    if source == element:
        return x
    if element == I1:
        return fn.compare("une" if is_float(x.type) else "ne", x, 0)
    if source == I1:
        return fn.convert("uitofp" if element == FLOAT else "zext", x, element)
    if element == FLOAT:
        return fn.convert("sitofp", x, element)
    if source == FLOAT:
        return fn.convert("fptosi", x, element)
    return fn.convert("trunc" if element == I32 else "sext", x, element)


def widen(fn: Function, stored: Value, dtype: str) -> Value:
    """Bytes as real numbers."""
    wide = fn.convert("zext" if dtype == "uint8" else "sext", stored, I32)
    return fn.convert("sitofp", wide, FLOAT)


def quantize(fn: Function, real: Value, scale: Value, zero: Value | None, dtype: str) -> Value:
    """The nearest step, ties to even, within the limits of the type; NaN is 0, as the layer's reference has it."""
    steps = fn.intrinsic("roundeven", real.type, [real / scale])
    steps = fn.select(m.is_nan(fn, steps), fn.zero(steps.type), steps)
    if zero is not None:
        steps = steps + widen(fn, zero, dtype)
    low, high = LIMITS[dtype]
    bounded = m.minimum(fn, m.maximum(fn, steps, fn.constant(steps.type, low)), fn.constant(steps.type, high))
    return fn.convert("trunc", fn.convert("fptosi", bounded, I32), I8)


def saturate(fn: Function, real: Value, scale: Value, zero: Value | None, dtype: str) -> Value:
    """A number within the range of the integers of a type, as real numbers."""
    limits = [fn.constant(real.type, limit) for limit in LIMITS[dtype]]
    low, high = ((limit if zero is None else limit - widen(fn, zero, dtype)) * scale for limit in limits)
    return m.minimum(fn, m.maximum(fn, real, low), high)


def dequantize(fn: Function, stored: Value, scale: Value, zero: Value | None, dtype: str) -> Value:
    """The real number of a step."""
    steps = widen(fn, stored, dtype)
    return (steps if zero is None else steps - widen(fn, zero, dtype)) * scale


def load(fn: Function, dtype: str, pointer: Value, nbytes: Any, lanes: int, count: int | None = None) -> Value:
    """A vector of an element type as it is in registers; of ``count`` elements where there are no more."""
    memory = vector(lanes, MEMORY[dtype])
    align = 1 if MEMORY[dtype] == I8 else 4
    if count is None or lanes == 1:
        found = fn.load(memory, pointer, nbytes, align)
    else:
        found = fn.load_lanes(memory, pointer, count, nbytes, align)
    return fn.compare("ne", found, 0) if dtype == "bool" else found


def store(fn: Function, dtype: str, value: Value, pointer: Value, nbytes: Any, count: int | None = None) -> None:
    """The reverse of `load`."""
    if dtype == "bool":
        value = fn.convert("zext", value, I8)
    align = 1 if MEMORY[dtype] == I8 else 4
    if count is None or lanes_of(value.type) == 1:
        fn.store(value, pointer, nbytes, align)
    else:
        fn.store_lanes(value, pointer, count, nbytes, align)
