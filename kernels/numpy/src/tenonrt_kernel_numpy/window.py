"""A window along one spatial axis: what it touches, for sizes that may be symbolic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from tenonrt.contracts import Dimension, Problem

D = TypeVar("D", int, Dimension)


@dataclass(frozen=True)
class Window:
    """``mode`` and the padding are those of the layer's attributes."""

    size: int
    stride: int
    dilation: int
    pre: int
    post: int
    mode: str

    @property
    def pads(self) -> bool:
        """Whether zeros may be needed around the image: "same" needs none for a window of one element."""
        if self.mode == "explicit":
            return bool(self.pre or self.post)
        return self.mode != "valid" and self.size > 1

    def touched(self, positions: D) -> D:
        """Elements from the first to the last that this many windows touch, padding included."""
        return (positions - 1) * self.stride + (self.size - 1) * self.dilation + 1

    def before(self, positions: int, size: int) -> int:
        """Zeros before an axis of ``size``."""
        if self.mode == "explicit":
            return self.pre
        missing = max(self.touched(positions) - size, 0) if self.mode != "valid" else 0
        return missing // 2 if self.mode == "same_upper" else missing - missing // 2


def windows(problem: Problem) -> list[Window]:
    """The spatial axes of the convolution that a problem begins with; empty attributes are ones and zeros."""
    attrs = problem.layer.attrs
    sizes = problem.types[problem.layer.inputs[1]].concrete({})[2:]
    ones, zeros = (1,) * len(sizes), (0,) * len(sizes)
    given = (attrs.stride or ones, attrs.dilation or ones, attrs.pre_padding or zeros, attrs.post_padding or zeros)
    rows = zip(sizes, *given, strict=True)
    return [Window(size, step, spread, pre, post, attrs.padding_mode) for size, step, spread, pre, post in rows]
