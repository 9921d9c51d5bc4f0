"""The activation functions, each ``f(x, alpha, beta)``, and the defaults of its parameters.

Formulas and defaults are those of the ONNX operators (Elu, Selu, HardSigmoid, ...) and of the ONNX recurrent layers
(ScaledTanh). NaN propagates wherever the formula lets it: ThresholdedRelu and Shrink are zero for NaN, as ONNX writes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from tenonrt.contracts import Array, erf


class Function(NamedTuple):
    """An activation function; a parameter whose default is None has no value unless given."""

    compute: Callable[[Array, Any, Any], Any]
    alpha: float | None = None
    beta: float | None = None
    integers: bool = False  # whether integer tensors are allowed


def sigmoid(x: Array, alpha: Any = None, beta: Any = None) -> Any:
    """1 / (1 + exp(-x)), never overflowing."""
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, decay) / (1 + decay)


def softplus(x: Array, alpha: float, beta: float) -> Any:
    """alpha * log(exp(beta * x) + 1), never overflowing."""
    return alpha * np.logaddexp(0, beta * x)


def elu(x: Array, alpha: float, beta: Any = None) -> Any:
    """x above zero, alpha * (exp(x) - 1) below."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array, alpha: float, beta: float) -> Any:
    """beta * elu(x, alpha)."""
    return beta * elu(x, alpha)


def celu(x: Array, alpha: float, beta: Any) -> Any:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))


def clip(x: Array, alpha: float | None, beta: float | None) -> Any:
    """min(max(x, alpha), beta): where the bounds cross, the upper one wins."""
    low, high = (None if bound is None else _bound(bound, x.dtype) for bound in (alpha, beta))
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def hard_sigmoid(x: Array, alpha: float, beta: float) -> Any:
    """max(0, min(1, alpha * x + beta))."""
    return np.maximum(0, np.minimum(1, alpha * x + beta))


def shrink(x: Array, alpha: float, beta: float) -> Any:
    """x + beta below -alpha, x - beta above alpha, zero between."""
    return np.where(x < -alpha, x + beta, np.where(x > alpha, x - beta, 0))


def gelu(x: Array, alpha: Any, beta: Any) -> Any:
    """x * Phi(x) with the normal distribution function Phi."""
    return 0.5 * x * (1 + erf(x / sqrt(2)))


def gelu_tanh(x: Array, alpha: Any, beta: Any) -> Any:
    """gelu with Phi approximated by a hyperbolic tangent (Hendrycks and Gimpel, 2016)."""
    return 0.5 * x * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))


def _bound(bound: float, dtype: np.dtype[Any]) -> Any:
    """A bound in the tensor's dtype; for integers the nearest one that the dtype has."""
    if dtype.kind not in "iu":
        return dtype.type(bound)
    limits = np.iinfo(dtype)
    return dtype.type(limits.max if bound >= limits.max else limits.min if bound <= limits.min else int(bound))


FUNCTIONS: dict[str, Function] = {
    "relu": Function(lambda x, alpha, beta: np.maximum(x, 0), integers=True),
    "sigmoid": Function(sigmoid),
    "tanh": Function(lambda x, alpha, beta: np.tanh(x)),
    "leaky_relu": Function(lambda x, alpha, beta: np.where(x >= 0, x, alpha * x), 0.01),
    "elu": Function(elu, 1.0),
    "selu": Function(selu, 1.67326319217681884765625, 1.05070102214813232421875),
    "celu": Function(celu, 1.0),
    "softsign": Function(lambda x, alpha, beta: x / (1 + np.abs(x))),
    "softplus": Function(softplus, 1.0, 1.0),
    "clip": Function(clip, integers=True),
    "hard_sigmoid": Function(hard_sigmoid, 0.2, 0.5),
    "scaled_tanh": Function(lambda x, alpha, beta: alpha * np.tanh(beta * x), 1.0, 1.0),
    "thresholded_relu": Function(lambda x, alpha, beta: np.where(x > alpha, x, 0), 1.0),
    "gelu": Function(gelu),
    "gelu_tanh": Function(gelu_tanh),
    "swish": Function(lambda x, alpha, beta: x * sigmoid(alpha * x), 1.0),
    "hard_swish": Function(lambda x, alpha, beta: x * hard_sigmoid(x, alpha, beta), 1 / 6, 0.5),
    "mish": Function(lambda x, alpha, beta: x * np.tanh(np.logaddexp(0, x)), None),
    "shrink": Function(shrink, 0.5, 0.0, integers=True),
}
