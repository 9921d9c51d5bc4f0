"""Convolutions and pooling on canonical tensors: input [N, C, *S], kernels [K, C, *R]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenonrt.contracts import GraphBuilder, ParseError, Tensor

from tenonrt_parser_uff.emit import reshape, single, transpose

LARGEST = 2**31 - 1  # of a window, stride, dilation or padding: no tensor has more elements along an axis


@dataclass(frozen=True)
class Window:
    """How a window moves, per spatial axis. An empty tuple is ones, of padding zeros. same: TensorFlow's SAME."""

    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    same: bool = False

    def attributes(self) -> dict[str, Any]:
        """As layers take them. The odd element of TensorFlow's SAME is at the end."""
        for name, values, least in (("strides", self.stride, 1), ("dilation", self.dilation, 1),
                                    ("padding", (*self.before, *self.after), 0)):  # fmt: skip
            if any(not least <= value <= LARGEST for value in values):
                raise ParseError(f"{name} {list(values)} must be at least {least} and below 2**31")
        attrs: dict[str, Any] = {"stride": self.stride, "dilation": self.dilation}
        if self.same:
            return attrs | {"padding_mode": "same_upper"}
        return attrs | {"pre_padding": self.before, "post_padding": self.after}


def convolve(builder: GraphBuilder, x: Tensor, kernel: Tensor, groups: int, window: Window) -> Tensor:
    """Kernels are [K, C / groups, *R], or [M, C, *R] of a depthwise convolution: M filters for each channel."""
    channels = x.type.shape[1] if x.type.rank > 1 else None
    if kernel.type.rank != x.type.rank or kernel.type.rank < 3:
        raise ParseError(f"input {x.type} and kernel {kernel.type} need one rank, 3 to 5")
    if groups > 1 and kernel.type.shape[1] == groups == channels:
        kernel = depthwise_kernel(builder, kernel)
    return single(builder, "Convolution", [x, kernel], {**window.attributes(), "groups": groups})


def groups_of(x: Tensor, kernel: Tensor) -> int:
    """How often a kernel's channels go into those of the input, 1 where they do not: [N, C, *S] and [K, C, *R]."""
    if x.type.rank < 2 or kernel.type.rank < 2:
        return 1
    channels, each = x.type.shape[1], kernel.type.shape[1]
    if not isinstance(channels, int) or not isinstance(each, int) or not each or channels % each:
        return 1
    return max(channels // each, 1)


def depthwise_kernel(builder: GraphBuilder, kernel: Tensor) -> Tensor:
    """[M, C, *R] to [C * M, 1, *R]: the filters of a channel follow each other."""
    filters, channels, *window = static(kernel, "the kernel")
    swapped = transpose(builder, kernel, (1, 0, *range(2, kernel.type.rank)))
    return reshape(builder, swapped, (channels * filters, 1, *window))


def static(tensor: Tensor, what: str) -> list[int]:
    """A shape without symbols."""
    if not tensor.type.static:
        raise ParseError(f"{what} needs a static shape, found {tensor.type}")
    return [int(d) for d in tensor.type.shape if isinstance(d, int)]


def deconvolve(
    builder: GraphBuilder, x: Tensor, kernel: Tensor, sizes: tuple[int, ...], groups: int, window: Window
) -> Tensor:
    """Kernels are [C, K / groups, *R], C of the input; ``sizes`` are the spatial ones of the output."""
    if kernel.type.rank != x.type.rank or len(sizes) != x.type.rank - 2:
        raise ParseError(f"input {x.type}, kernel {kernel.type} and output size {list(sizes)} do not fit each other")
    if any(not 0 <= size <= LARGEST for size in sizes):
        raise ParseError(f"the output size {list(sizes)} must not be negative or past 2**31")
    attrs: dict[str, Any] = {**window.attributes(), "groups": groups}
    if window.same or not any((*window.before, *window.after)):
        # Without padding nothing is cropped, and what a stride leaves open is at the end: zero.
        attrs |= {"padding_mode": "same_upper", "output_shape": sizes}
        attrs.pop("pre_padding", None)
        attrs.pop("post_padding", None)
    else:
        attrs["output_padding"] = _open_ends(x, kernel, sizes, window)
    return single(builder, "Deconvolution", [x, kernel], attrs)


def _open_ends(x: Tensor, kernel: Tensor, sizes: tuple[int, ...], window: Window) -> tuple[int, ...]:
    """What the output has beyond the last window, given symmetric padding."""
    spatial, extents = static(x, "the input")[2:] if x.type.static else None, static(kernel, "the kernel")[2:]
    if spatial is None:
        raise ParseError(
            f"padding {list(window.before)} of a transposed convolution needs a static input, not {x.type}"
        )
    ones = (1,) * len(sizes)
    found = tuple(
        size - ((given - 1) * step + (extent - 1) * spread + 1 - before - after)
        for size, given, extent, step, spread, before, after in zip(
            sizes, spatial, extents, window.stride or ones, window.dilation or ones, window.before, window.after,
            strict=True,
        )
    )  # fmt: skip
    if any(not 0 <= end < step for end, step in zip(found, window.stride or ones, strict=True)):
        raise ParseError(f"output size {list(sizes)} does not follow from input {x.type} and kernel {kernel.type}")
    return found


def pool(builder: GraphBuilder, function: str, x: Tensor, size: tuple[int, ...], window: Window) -> Tensor:
    """Maximum or average; padding counts for neither."""
    if any(not 1 <= extent <= LARGEST for extent in size):
        raise ParseError(f"the window {list(size)} must be at least 1 and below 2**31")
    attrs = window.attributes()
    return single(builder, "Pooling", [x], {"function": function, "window": size, **attrs})
