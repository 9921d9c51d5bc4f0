"""What a reduction starts from, does with each element, makes of two partial results, and does at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt_kernel_llvm import mathematics as m
from tenonrt_kernel_llvm.emitter import Function, Value, lanes_of, vector
from tenonrt_kernel_llvm.operations import BINARY

Step = Callable[[Value, Value, int], Value]


@dataclass(frozen=True)
class Accumulation:
    """step(partial, elements, which vector of the tile); finish(result, number of elements)."""

    fn: Function
    neutral: float
    step: Step
    merge: Callable[[Value, Value], Value]
    finish: Callable[[Value, Value], Value] = lambda result, count: result

    def initial(self, lanes: int) -> Value:
        """What changes no result."""
        return self.fn.constant(vector(lanes), self.neutral)


def accumulation(fn: Function, name: str) -> Accumulation:
    """One of the operations of Reduce by name; "largest" is a maximum that may lose a NaN."""
    if name == "log_sum_exp":  # finished by `shifted_logarithm`
        return accumulation(fn, "sum")
    if name in ("max", "min"):
        combine = BINARY[name]
        limit = -math.inf if name == "max" else math.inf
        return Accumulation(fn, limit, lambda v, x, k: combine(fn, v, x), lambda a, b: combine(fn, a, b))
    if name == "largest":
        return Accumulation(fn, -math.inf, lambda v, x, k: m.maximum(fn, v, x), lambda a, b: m.maximum(fn, a, b))
    if name == "prod":
        return Accumulation(fn, 1.0, lambda v, x, k: v * x, lambda a, b: a * b)
    return Accumulation(fn, 0.0, _added(fn, name), lambda a, b: a + b, _finish(fn, name))


def _added(fn: Function, name: str) -> Step:
    if name in ("l2", "sum_square"):
        return lambda v, x, k: fn.fma(x, x, v)
    if name == "l1":
        return lambda v, x, k: v + m.absolute(fn, x)
    return lambda v, x, k: v + x


def _finish(fn: Function, name: str) -> Callable[[Value, Value], Value]:
    if name == "mean":
        return lambda total, count: total / fn.splat(count, lanes_of(total.type))
    if name == "l2":
        return lambda total, count: m.square_root(fn, total)
    if name == "log_sum":
        return lambda total, count: m.log(fn, total)
    return lambda total, count: total


def combine_lanes(fn: Function, acc: Accumulation, value: Value) -> Value:
    """The lanes of a vector combined into a scalar, halves first."""
    lanes = lanes_of(value.type)
    while lanes > 2:
        lanes //= 2
        low, high = (fn.shuffle(value, value, range(at, at + lanes)) for at in (0, lanes))
        value = acc.merge(low, high)
    return acc.merge(fn.extract(value, 0), fn.extract(value, 1)) if lanes == 2 else value


# log(sum(exp(x - m))) + m with the largest value m, which cannot overflow


def exponent_shift(fn: Function, largest: Value) -> Value:
    """What is subtracted: nothing where the largest is infinite or NaN, which then have their own results."""
    finite = fn.compare("olt", m.absolute(fn, largest), math.inf)
    return fn.select(finite, largest, fn.zero(largest.type))


def shifted_exponentials(fn: Function, shifts: Sequence[Value]) -> Accumulation:
    """Sums of exp(x - shift), with a shift for each vector of the tile."""
    return Accumulation(fn, 0.0, lambda v, x, k: v + m.exp(fn, x - shifts[k]), lambda a, b: a + b)


def shifted_logarithm(fn: Function, total: Value, shift: Value) -> Value:
    """The logarithm of such a sum as if nothing had been subtracted."""
    return m.log(fn, total) + shift
