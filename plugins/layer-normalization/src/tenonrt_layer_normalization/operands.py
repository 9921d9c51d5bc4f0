"""Checks on the operands that the normalizations share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import FLOATS, TensorInfo, broadcasts_to, differ, required


def floats(inputs: Sequence[TensorInfo | None], least_rank: int, axes: str) -> TensorInfo:
    """The first input; `ValueError` unless it holds floats and has enough axes."""
    (source,) = required(inputs, 1)
    if source.dtype not in FLOATS:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(FLOATS)}")
    if source.rank < least_rank:
        raise ValueError(f"input is {source.type}, expected at least {axes}")
    return source


def check_epsilon(epsilon: float) -> None:
    """`ValueError` for a negative epsilon, which could turn a variance negative."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}, expected 0 or more")


def check_channels(source: TensorInfo, names: Sequence[str], parameters: Sequence[TensorInfo | None]) -> None:
    """`ValueError` unless each parameter given is a vector of floats with one value for each channel (axis 1)."""
    for name, parameter in zip(names, parameters, strict=False):
        if parameter is None:
            continue
        if parameter.dtype not in FLOATS:
            raise ValueError(f"{name} is {parameter.type}, expected one of {', '.join(FLOATS)}")
        if parameter.rank != 1 or differ(parameter.shape[0], source.shape[1]):
            raise ValueError(f"{name} is {parameter.type}, expected [{source.shape[1]}]: axis 1 of input {source.type}")


def check_broadcast(source: TensorInfo, names: Sequence[str], parameters: Sequence[TensorInfo | None]) -> None:
    """`ValueError` unless each parameter given holds floats and broadcasts to the input without enlarging it."""
    for name, parameter in zip(names, parameters, strict=False):
        if parameter is None:
            continue
        if parameter.dtype not in FLOATS:
            raise ValueError(f"{name} is {parameter.type}, expected one of {', '.join(FLOATS)}")
        if not broadcasts_to(parameter.shape, source.shape):
            raise ValueError(f"{name} is {parameter.type}, expected a shape that broadcasts to input {source.type}")
