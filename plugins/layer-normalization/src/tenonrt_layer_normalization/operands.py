"""Checks on the operands that the normalizations share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Dimension, Shape, TensorInfo

DTYPES = ("float16", "bfloat16", "float32", "float64")


def floats(source: TensorInfo | None, least_rank: int, axes: str) -> TensorInfo:
    """The input; `ValueError` unless it holds floats and has enough axes."""
    assert source is not None
    if source.dtype not in DTYPES:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(DTYPES)}")
    if source.rank < least_rank:
        raise ValueError(f"input is {source.type}, expected at least {axes}")
    return source


def check_axis(axis: int, source: TensorInfo) -> int:
    """The axis counted from the first; `ValueError` when the input has no such axis."""
    if not -source.rank <= axis < source.rank:
        raise ValueError(f"axis is {axis}, expected one of the {source.rank} axes of input {source.type}")
    return axis % source.rank


def check_epsilon(epsilon: float) -> None:
    """`ValueError` for a negative epsilon, which could turn a variance negative."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}, expected 0 or more")


def check_channels(source: TensorInfo, names: Sequence[str], parameters: Sequence[TensorInfo | None]) -> None:
    """`ValueError` unless each parameter given is a vector of floats with one value for each channel (axis 1)."""
    for name, parameter in zip(names, parameters, strict=False):
        if parameter is None:
            continue
        if parameter.dtype not in DTYPES:
            raise ValueError(f"{name} is {parameter.type}, expected one of {', '.join(DTYPES)}")
        if parameter.rank != 1 or differ(parameter.shape[0], source.shape[1]):
            raise ValueError(f"{name} is {parameter.type}, expected [{source.shape[1]}]: axis 1 of input {source.type}")


def check_broadcast(source: TensorInfo, names: Sequence[str], parameters: Sequence[TensorInfo | None]) -> None:
    """`ValueError` unless each parameter given holds floats and broadcasts to the input without enlarging it."""
    for name, parameter in zip(names, parameters, strict=False):
        if parameter is None:
            continue
        if parameter.dtype not in DTYPES:
            raise ValueError(f"{name} is {parameter.type}, expected one of {', '.join(DTYPES)}")
        if not _broadcasts(parameter.shape, source.shape):
            raise ValueError(f"{name} is {parameter.type}, expected a shape that broadcasts to input {source.type}")


def _broadcasts(shape: Shape, target: Shape) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and not any(differ(d, 1) and differ(d, t) for d, t in pairs)


def differ(left: Dimension, right: Dimension) -> bool:
    """Whether two dimensions are unequal for every value of the symbols."""
    try:
        return left != right and (left < right or left > right)
    except ValueError:  # the symbols' ranges allow both
        return False
