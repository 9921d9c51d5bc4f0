"""Products with constant weights as problems: fully connected layers, and convolutions whose window is one element."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from tenonrt.contracts import Problem, SumTail, added_operand, row_product_refusal

# With the values that attributes have where they are not given.
FUNCTIONS: dict[str, float | None] = {
    "relu": None, "clip": None, "sigmoid": None, "swish": 1.0, "gelu": None, "gelu_tanh": None,
}  # fmt: skip
TAIL = SumTail(lambda attrs: attrs.function in FUNCTIONS)


@dataclass(frozen=True)
class Product:
    """y[m, n] = function(x[m, k] w[n, k]^T + bias[n] + z[m, n]); n and k are padded, channels is n without padding.

    added: the tensor z of the problem, if any. images: whether rows are pixels, which may be slices of wider ones.
    """

    m: int
    n: int
    k: int
    channels: int
    images: bool
    added: int | None = None
    function: str = ""
    alpha: float | None = None
    beta: float | None = None


def product_of(problem: Problem) -> Product:
    """The product of a problem that is not refused."""
    layer = problem.layer
    source, weights = problem.types[layer.inputs[0]].concrete({}), problem.types[layer.inputs[1]].concrete({})
    images = layer.kind == "Convolution"
    m, k = (source[0] * source[2] * source[3], source[1]) if images else (prod(source[:-1]), source[-1])
    found = Product(m, _ceil8(weights[0]), _ceil8(k), weights[0], images, added_operand(problem))
    last = problem.layers[-1]
    return _with_function(found, last.attrs) if last.kind == "Activation" else found


def _with_function(product: Product, attrs: Any) -> Product:
    alpha = attrs.alpha if attrs.alpha is not None else FUNCTIONS[attrs.function]
    return Product(**{**product.__dict__, "function": attrs.function, "alpha": alpha, "beta": attrs.beta})


def refuses(problem: Problem) -> str:
    """Why a problem of static tensors is no such product; empty when it is one."""
    if not all(type.size for type in problem.types):
        return "nothing to compute"
    return row_product_refusal(problem) or TAIL.refusal(problem)


def _ceil8(size: int) -> int:
    return -(-size // 8) * 8
