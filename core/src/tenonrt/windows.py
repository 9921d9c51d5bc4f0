"""Sliding windows: how window, stride, dilation and padding turn the size of a spatial axis into the output's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tenonrt.dims import Dimension, minimum
from tenonrt.shapes import surely_less

PaddingMode = Literal["explicit", "same_upper", "same_lower", "valid"]


@dataclass(frozen=True)
class WindowAxis:
    """A window sliding along one spatial axis. ``pre``, ``post`` and ``ceil`` have no say in the "same_*" modes."""

    window: int
    stride: int = 1
    dilation: int = 1
    pre: int = 0
    post: int = 0
    mode: PaddingMode = "explicit"
    ceil: bool = False

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
        if surely_less(padded, self.extent):
            raise ValueError(f"a window spanning {self.extent} does not fit into a padded size of {padded}")
        if not self.ceil:
            return (padded - self.extent) // self.stride + 1
        hanging = (padded - self.extent + (self.stride - 1)) // self.stride + 1
        return minimum(hanging, (size + (self.pre - 1)) // self.stride + 1)

    def positions(self, size: int) -> int:
        """`output` for the axis of an array, which is never symbolic."""
        count = self.output(size)
        assert isinstance(count, int)
        return count

    def padding(self, size: int) -> tuple[int, int]:
        """Elements added before and after an axis of ``size``."""
        if not self.mode.startswith("same"):
            return self.pre, self.post
        total = max((self.positions(size) - 1) * self.stride + self.extent - size, 0)
        return share_padding(total, self.mode)


def window_axes(
    window: Sequence[int],
    stride: Sequence[int] = (),
    dilation: Sequence[int] = (),
    pre_padding: Sequence[int] = (),
    post_padding: Sequence[int] = (),
    mode: PaddingMode = "explicit",
    ceil: bool = False,
) -> list[WindowAxis]:
    """The windows of each spatial axis; an empty sequence is ones (stride, dilation) or zeros (padding).

    Padding counts in mode "explicit" only. `ValueError` for a sequence of the wrong length, or values out of range.
    """
    if mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode is {mode!r}, expected one of {get_args(PaddingMode)}")
    rank, explicit = len(window), mode == "explicit"
    columns = (
        per_axis("window", window, rank, 1),
        per_axis("stride", stride, rank, 1),
        per_axis("dilation", dilation, rank, 1),
        per_axis("pre_padding", pre_padding if explicit else (), rank, 0),
        per_axis("post_padding", post_padding if explicit else (), rank, 0),
    )
    return [WindowAxis(*row, mode, ceil) for row in zip(*columns, strict=True)]


def per_axis(name: str, values: Sequence[int], rank: int, least: int) -> tuple[int, ...]:
    """One value for each spatial axis: ``least``, which is also the default, or more."""
    if not values:
        return (least,) * rank
    if len(values) != rank:
        raise ValueError(f"{name} is {tuple(values)}, expected one value for each of the {rank} spatial axes")
    if min(values) < least:
        raise ValueError(f"{name} is {tuple(values)}, expected values of at least {least}")
    return tuple(values)


def share_padding(total: int, mode: PaddingMode) -> tuple[int, int]:
    """Split padding between both ends; of an odd total, "same_upper" puts the extra element at the end."""
    half = total // 2
    return (half, total - half) if mode == "same_upper" else (total - half, half)


def transposed_crop(axis: WindowAxis, size: int, made: int, extra: int = 0, *, wanted: bool = False) -> int:
    """What a transposed convolution cuts off before its ``made`` elements: the padding, or half of what is too much.

    extra: of padding of the output. wanted: whether ``made`` was asked for, whatever the padding.
    """
    if not wanted and not axis.mode.startswith("same"):
        return axis.pre
    full = (size - 1) * axis.stride + axis.extent + extra
    return share_padding(max(full - made, 0), axis.mode)[0]
