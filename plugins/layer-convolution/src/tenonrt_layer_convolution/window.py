"""The attributes of the sliding windows that Convolution and Deconvolution share."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Attributes, PaddingMode, WindowAxis, window_axes


class WindowAttributes(Attributes, frozen=True):
    """What Convolution and Deconvolution share; an empty tuple is ones (stride, dilation) or zeros (padding)."""

    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pre_padding: tuple[int, ...] = ()
    post_padding: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: PaddingMode = "explicit"


def axes(attrs: WindowAttributes, window: Sequence[int]) -> list[WindowAxis]:
    """The windows of each spatial axis; `ValueError` for attributes of the wrong length or range."""
    padding = (attrs.pre_padding, attrs.post_padding)
    return window_axes(window, attrs.stride, attrs.dilation, *padding, attrs.padding_mode)
