"""Checks on the operands that Convolution and Deconvolution share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import FLOATS, INTEGERS, Array, Dimension, TensorInfo, differ, optional, required

DTYPES = (*FLOATS, *INTEGERS)
MAX_SPATIAL_AXES = 3


def operands(inputs: Sequence[TensorInfo | None]) -> tuple[TensorInfo, TensorInfo, TensorInfo | None]:
    """Input, weights and bias; `ValueError` unless they are of one numeric type and the ranks belong together."""
    (source, weights), bias = required(inputs, 2), optional(inputs, 2)
    if source.dtype not in DTYPES:
        raise ValueError(f"input is {source.type}, expected one of {', '.join(DTYPES)}")
    if not 3 <= source.rank <= 2 + MAX_SPATIAL_AXES:
        raise ValueError(f"input is {source.type}, expected [N, C] and 1 to {MAX_SPATIAL_AXES} spatial axes")
    if weights.rank != source.rank:
        raise ValueError(f"weights are {weights.type}, expected {source.rank} axes as in input {source.type}")
    for name, operand in (("weights", weights), ("bias", bias)):
        if operand is not None and operand.dtype != source.dtype:
            raise ValueError(f"{name} are {operand.type}, expected the input's element type {source.dtype}")
    return source, weights, bias


def window_size(weights: TensorInfo) -> tuple[int, ...]:
    """The window of the weights; `ValueError` when it is symbolic or empty."""
    sizes = tuple(d for d in weights.shape[2:] if isinstance(d, int) and d > 0)
    if len(sizes) != weights.rank - 2:
        raise ValueError(f"weights are {weights.type}, expected spatial sizes that are known and at least 1")
    return sizes


def check_groups(groups: int, axis: str, size: Dimension) -> None:
    """`ValueError` unless a channel count divides into the groups."""
    if groups < 1:
        raise ValueError(f"groups is {groups}, expected at least 1")
    if isinstance(size, int) and size % groups:
        raise ValueError(f"{axis} are {size}, expected a multiple of groups={groups}")


def check_bias(bias: TensorInfo | None, channels: Dimension) -> None:
    """`ValueError` unless there is one bias for each output channel."""
    if bias is None:
        return
    if bias.rank != 1 or differ(bias.shape[0], channels):
        raise ValueError(f"bias is {bias.type}, expected shape [{channels}], one value for each output channel")


def add_bias(output: Array, bias: Array | None) -> Array:
    """Add one value to each channel (axis 1), in place."""
    if bias is not None:
        output += bias.astype(output.dtype, copy=False).reshape(-1, *[1] * (output.ndim - 2))
    return output
