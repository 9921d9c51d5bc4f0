"""Sliding windows: how window, stride, dilation and padding turn the size of a spatial axis into the output's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tenonrt.contracts import Attributes, Dimension

PaddingMode = Literal["explicit", "same_upper", "same_lower", "valid"]


class WindowAttributes(Attributes, frozen=True):
    """What Convolution and Deconvolution share; an empty tuple is ones (stride, dilation) or zeros (padding)."""

    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pre_padding: tuple[int, ...] = ()
    post_padding: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: PaddingMode = "explicit"


@dataclass(frozen=True)
class Axis:
    """A window sliding along one spatial axis. ``pre`` and ``post`` hold for explicit padding only."""

    window: int
    stride: int
    dilation: int
    pre: int
    post: int
    mode: PaddingMode

    @property
    def extent(self) -> int:
        """From the first to the last element that one window touches."""
        return (self.window - 1) * self.dilation + 1

    def output(self, size: Dimension) -> Dimension:
        """Number of window positions on an axis of ``size``; `ValueError` when not one window fits."""
        if self.mode.startswith("same"):
            return (size + (self.stride - 1)) // self.stride
        padded = size + (self.pre + self.post)
        if certainly_less(padded, self.extent):
            raise ValueError(f"a window spanning {self.extent} does not fit into a padded size of {padded}")
        return (padded - self.extent) // self.stride + 1

    def padding(self, size: int) -> tuple[int, int]:
        """Zeros before and after an axis of ``size``."""
        if not self.mode.startswith("same"):
            return self.pre, self.post
        positions = -(-size // self.stride)
        total = max((positions - 1) * self.stride + self.extent - size, 0)
        return share_padding(total, self.mode)


def axes(attrs: WindowAttributes, window: Sequence[int]) -> list[Axis]:
    """The windows of each spatial axis; `ValueError` for attributes of the wrong length or range."""
    rank = len(window)
    if attrs.padding_mode not in get_args(PaddingMode):
        raise ValueError(f"padding_mode is {attrs.padding_mode!r}, expected one of {get_args(PaddingMode)}")
    explicit = attrs.padding_mode == "explicit"
    stride = per_axis("stride", attrs.stride, rank, 1)
    dilation = per_axis("dilation", attrs.dilation, rank, 1)
    pre = per_axis("pre_padding", attrs.pre_padding if explicit else (), rank, 0)
    post = per_axis("post_padding", attrs.post_padding if explicit else (), rank, 0)
    return [Axis(*values, attrs.padding_mode) for values in zip(window, stride, dilation, pre, post, strict=True)]


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


def known(dimension: Dimension) -> int:
    """A dimension of an array, which is never symbolic."""
    assert isinstance(dimension, int)
    return dimension


def certainly_less(left: Dimension, right: Dimension) -> bool:
    """Whether left < right for every value of the symbols."""
    try:
        return left < right
    except ValueError:  # the symbols' ranges allow both
        return False


def differ(left: Dimension, right: Dimension) -> bool:
    """Whether two dimensions are unequal for every value of the symbols."""
    return certainly_less(left, right) or certainly_less(right, left)
