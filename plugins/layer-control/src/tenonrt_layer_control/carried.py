"""What Loop and Scan share: the state a body carries from one iteration to the next, and the outputs they collect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tenonrt.contracts import (
    Array,
    Dim,
    Dimension,
    Shape,
    TensorInfo,
    TensorType,
    contents,
    is_container,
    joined,
    same,
    unknown,
)


def check_carried(given: TensorInfo, body: TensorInfo, name: str) -> None:
    """Refuse a tensor that a body's input cannot hold."""
    if joined(given.dtype, body.dtype) is None or given.rank != body.rank:
        raise ValueError(f"{name} is {given.type}, expected {body.type}, the type of the body's input")
    for i, (found, expected) in enumerate(zip(given.shape, body.shape, strict=True)):
        same(expected, found, f"axis {i} of {name}")


def check_returned(returned: TensorInfo, body: TensorInfo, name: str) -> None:
    """Refuse a body that returns a state of another type than it takes."""
    if not _returns(returned.dtype, body.dtype) or returned.rank != body.rank:
        raise ValueError(f"the body returns {returned.type} as {name}, expected {body.type}, the type of its input")


def _returns(returned: str, taken: str) -> bool:
    """Whether a body may give this type for a state: ONNX lets one that took an optional return its content."""
    if is_container(taken) and contents(taken)[0] == "optional" and joined(returned, taken) is None:
        taken = contents(taken)[1][0]
    return joined(returned, taken) is not None


def final_state(given: TensorInfo, taken: TensorInfo, returned: TensorInfo) -> TensorInfo:
    """The type of a state after any number of iterations, none included.

    An axis that the body returns as it took it, or that is returned with the size it began with, keeps that size.
    """
    triples = zip(given.shape, taken.shape, returned.shape, strict=True)
    dtype = given.dtype if joined(given.dtype, returned.dtype) == given.dtype else returned.dtype
    if is_container(dtype) and dtype != given.dtype:
        dtype = joined(given.dtype, returned.dtype) or dtype
    return given.like([first if out in {inner, first} else unknown() for first, inner, out in triples], dtype)


def bindings(
    given: Iterable[TensorInfo], taken: Iterable[TensorInfo], kept: Iterable[TensorInfo]
) -> dict[str, Dimension]:
    """What the symbols of a body's inputs stand for outside: the dimensions given, where no iteration changes them."""
    found: dict[str, Dimension] = {}
    for outer, inner, after in zip(given, taken, kept, strict=True):
        for value, dimension, final in zip(outer.shape, inner.shape, after.shape, strict=True):
            if isinstance(dimension, Dim) and value == final and _names(dimension) == {str(dimension)}:
                found[str(dimension)] = value
    return found


def _names(dimension: Dimension) -> set[str]:
    return TensorType((dimension,)).symbol_names()


def outside(type: TensorType, bound: Mapping[str, Dimension], visible: set[str]) -> Shape:
    """A shape inside a body as it is seen outside: symbols made in the body are unknown there."""
    shape = type.substitute(bound).shape
    return tuple(d if _names(d) <= visible else unknown() for d in shape)


def visible_symbols(inputs: Sequence[TensorInfo | None]) -> set[str]:
    """Names of the symbols that the inputs of a control layer bring along."""
    return {name for info in inputs if info is not None for name in info.type.symbol_names()}


def stack(parts: Sequence[Array], like: Array, axis: int = 0) -> Array:
    """Join the parts along a new axis; without parts, an empty array of the shape and type of ``like``."""
    axis = axis % (like.ndim + 1)
    if parts:
        return np.stack(parts, axis)
    return np.zeros((*like.shape[:axis], 0, *like.shape[axis:]), like.dtype)


def truth(condition: Array) -> bool:
    """The value of a condition: a boolean scalar or one element."""
    if condition.size != 1:
        raise ValueError(f"a condition must hold one element, found shape {condition.shape}")
    return bool(condition.reshape(-1)[0])


def check_condition(condition: TensorInfo) -> None:
    """Refuse a condition that is not one boolean."""
    if condition.dtype != "bool" or condition.shape not in {(), (1,)}:
        raise ValueError(f"the condition is {condition.type}, expected one boolean")


def known_truth(condition: TensorInfo | None) -> bool | None:
    """The value of a condition where it is known while inferring; an absent one is true."""
    if condition is None:
        return True
    return None if condition.value is None else bool(condition.value.reshape(-1)[0])
