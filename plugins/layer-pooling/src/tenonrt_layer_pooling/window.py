"""Sliding windows: how window, stride, dilation and padding turn the size of a spatial axis into the output's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from tenonrt.contracts import Array, Dimension, minimum

PaddingMode = Literal["explicit", "same_upper", "same_lower", "valid"]


@dataclass(frozen=True)
class Axis:
    """A window sliding along one spatial axis. ``pre``, ``post`` and ``ceil`` have no say in the "same_*" modes."""

    window: int
    stride: int
    dilation: int
    pre: int
    post: int
    mode: PaddingMode
    ceil: bool

    @property
    def extent(self) -> int:
        """From the first to the last element that one window touches."""
        return (self.window - 1) * self.dilation + 1

    def output(self, size: Dimension) -> Dimension:
        """Number of window positions on an axis of ``size``; `ValueError` when not one window fits.

        With ``ceil`` the last window may hang over the end, but not start beyond the input (ONNX MaxPool).
        """
        if self.mode.startswith("same"):
            return (size + (self.stride - 1)) // self.stride
        padded = size + (self.pre + self.post)
        if certainly_less(padded, self.extent):
            raise ValueError(f"a window spanning {self.extent} does not fit into a padded size of {padded}")
        if not self.ceil:
            return (padded - self.extent) // self.stride + 1
        hanging = (padded - self.extent + (self.stride - 1)) // self.stride + 1
        return minimum(hanging, (size + (self.pre - 1)) // self.stride + 1)

    def padding(self, size: int) -> tuple[int, int]:
        """Elements added before and after an axis of ``size``."""
        if not self.mode.startswith("same"):
            return self.pre, self.post
        positions = -(-size // self.stride)
        total = max((positions - 1) * self.stride + self.extent - size, 0)
        half = total // 2
        return (half, total - half) if self.mode == "same_upper" else (total - half, half)

    def positions(self, size: int) -> int:
        """`output` for an array's axis, which is never symbolic."""
        count = self.output(size)
        assert isinstance(count, int)
        return count

    def taps(self, array: Array, axis: int, fill: float) -> list[Array]:
        """For each element of the window, what it meets at all positions: views of the array padded with ``fill``."""
        size = array.shape[axis]
        count, before = self.positions(size), self.padding(size)[0]
        last = (count - 1) * self.stride
        padding = [(0, 0)] * array.ndim
        padding[axis] = (before, max(0, last + self.extent - before - size))
        if any(padding[axis]):
            array = np.pad(array, padding, constant_values=fill)
        offsets = [tap * self.dilation for tap in range(self.window)]
        lead = (slice(None),) * axis
        return [array[(*lead, slice(offset, offset + last + 1, self.stride))] for offset in offsets]

    def counts(self, size: int, include_padding: bool) -> Array:
        """How many elements of the window lie in the input, or in the padded input, at each position."""
        before, after = self.padding(size)
        first, end = (0, before + size + after) if include_padding else (before, before + size)
        starts = np.arange(self.positions(size)) * self.stride
        touched = starts[:, None] + np.arange(self.window) * self.dilation
        counts: Array = ((touched >= first) & (touched < end)).sum(axis=1)
        return counts


def per_axis(name: str, values: Sequence[int], rank: int, least: int) -> tuple[int, ...]:
    """One value for each spatial axis: ``least``, which is also the default, or more."""
    if not values:
        return (least,) * rank
    if len(values) != rank:
        raise ValueError(f"{name} is {tuple(values)}, expected one value for each of the {rank} spatial axes")
    if min(values) < least:
        raise ValueError(f"{name} is {tuple(values)}, expected values of at least {least}")
    return tuple(values)


def check_mode(mode: str) -> None:
    """`ValueError` for an unknown padding mode."""
    if mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode is {mode!r}, expected one of {get_args(PaddingMode)}")


def certainly_less(left: Dimension, right: Dimension) -> bool:
    """Whether left < right for every value of the symbols."""
    try:
        return left < right
    except ValueError:  # the symbols' ranges allow both
        return False
