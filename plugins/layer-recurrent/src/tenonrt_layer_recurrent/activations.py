"""The activation functions of recurrent cells, with the defaults and the argument order of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from tenonrt.contracts import Array

Activation = Callable[[Array], Array]


def _sigmoid(x: Array) -> Array:
    # exp of a negative number only, so that nothing overflows.
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, x.dtype.type(0)))


_PLAIN: dict[str, Activation] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softplus": _softplus,
}

_ALPHA: dict[str, tuple[Callable[[Array, float], Array], float]] = {
    "leakyrelu": (lambda x, a: np.where(x < 0, a * x, x), 0.01),
    "thresholdedrelu": (lambda x, a: np.where(x > a, x, 0).astype(x.dtype), 1.0),
    "elu": (lambda x, a: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), 1.0),
}

_ALPHA_BETA: dict[str, tuple[Callable[[Array, float, float], Array], float, float]] = {
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
}

KNOWN = frozenset({*_PLAIN, *_ALPHA, *_ALPHA_BETA})


def resolve(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """The functions of these names, in any case. Those that take an alpha or beta use the next one, then a default.

    `ValueError` names an unknown function.
    """
    next_alpha, next_beta = iter(alphas), iter(betas)
    found: list[Activation] = []
    for name in names:
        key = name.lower()
        if key in _PLAIN:
            found.append(_PLAIN[key])
        elif key in _ALPHA:
            function, alpha = _ALPHA[key]
            found.append(partial(_with_alpha, function, next(next_alpha, alpha)))
        elif key in _ALPHA_BETA:
            function2, alpha, beta = _ALPHA_BETA[key]
            found.append(partial(_with_both, function2, next(next_alpha, alpha), next(next_beta, beta)))
        else:
            raise ValueError(f"unknown activation {name!r}; known are {', '.join(sorted(KNOWN))}")
    return found


def _with_alpha(function: Callable[[Array, float], Array], alpha: float, x: Array) -> Array:
    return function(x, alpha)


def _with_both(function: Callable[[Array, float, float], Array], alpha: float, beta: float, x: Array) -> Array:
    return function(x, alpha, beta)
