"""The sizes of a quantized contraction: pixels of images by inputs of each window, to outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tenonrt.contracts import LINEAR, NCHW16C, NHWC, Dimension, Format, Problem, window_axes

from tenonrt_kernel_llvm.contraction.geometry import Axis
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.quantized.problem import Quantized
from tenonrt_kernel_llvm.quantized.requantization import PAIR

KINDS = frozenset({"Convolution", "FullyConnected", "MatrixMultiply"})
_POINT = Axis(1, 1, 1, 1, 1, 0)


@dataclass(frozen=True)
class Shape:
    """``images`` times [y.size, x.size, channels], stored so, to [y.output, x.output, outputs]."""

    images: Dimension
    channels: int
    outputs: int
    groups: int
    y: Axis
    x: Axis

    @property
    def sets(self) -> int:
        """Sets of outputs that read channels of their own: groups, or as many small ones as fill a pair of blocks."""
        return 1 if self.groups == 1 else self.outputs // max(self.outputs // self.groups, PAIR)

    @property
    def taken(self) -> int:
        """Channels that a set reads."""
        return self.channels // self.sets

    @property
    def inputs(self) -> int:
        """Inputs of one sum, window row by row, then column by column, then by channel."""
        return self.taken * self.y.window * self.x.window

    @property
    def pixels(self) -> int:
        return self.y.output * self.x.output

    @property
    def flat(self) -> bool:
        """Whether the window is one pixel with all of its channels, each used once."""
        return self.y.plain and self.x.plain and self.groups == 1


def read_shape(problem: Problem, region: Quantized) -> Shape | str:
    """The sizes of a region, or why this package does not compute it."""
    assert region.weights is not None
    anchor = region.anchor
    source, weights = problem.types[region.source.stored], problem.types[region.weights.stored]
    result = problem.types[problem.outputs[0]]
    if not weights.static or not source.reshape(source.shape[1:]).static:
        return "all sizes but the batch must be known"
    if 0 in (*source.shape, *weights.shape, *result.shape):
        return "a size is 0"
    if anchor.kind == "Convolution":
        return _convolution(problem, region)
    if not source.static:
        return "the number of rows must be known"
    rows = math.prod(known(d) for d in source.shape[:-1])
    transposed = anchor.kind == "FullyConnected" or anchor.attrs.transpose_b
    if anchor.kind == "MatrixMultiply" and (weights.rank != 2 or source.rank < 2 or anchor.attrs.transpose_a):
        return "a product with one matrix of weights, of rows as they are"
    outputs, inputs = (known(d) for d in (weights.shape if transposed else weights.shape[::-1]))
    return Shape(1, inputs, outputs, 1, _POINT, Axis(rows, rows, 1, 1, 1, 0))


def _convolution(problem: Problem, region: Quantized) -> Shape | str:
    assert region.weights is not None
    source, weights = problem.types[region.source.stored], problem.types[region.weights.stored]
    attrs, result = region.anchor.attrs, problem.types[region.anchor.outputs[0]]
    if source.rank != 4:
        return f"images of 2 spatial axes, not {source.rank - 2}"
    windows = window_axes(
        [known(d) for d in weights.shape[2:]], attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding,
        attrs.padding_mode,
    )  # fmt: skip
    sizes, outputs = ([known(d) for d in type.shape[2:]] for type in (source, result))
    y, x = (
        Axis(size, output, w.window, w.stride, w.dilation, w.padding(size)[0])
        for w, size, output in zip(windows, sizes, outputs, strict=True)
    )
    return Shape(source.shape[0], known(source.shape[1]), known(weights.shape[0]), attrs.groups, y, x)


def grouping_refusal(shape: Shape) -> str:
    """Why groups of channels do not fall on pairs of blocks of outputs; empty where they do, or there are none."""
    each = shape.outputs // shape.groups
    if shape.groups == 1 or each % PAIR == 0:
        return ""
    if each == 1 and shape.groups == shape.channels:
        return "one filter for each channel"
    return "" if PAIR % each == 0 and shape.outputs % PAIR == 0 else f"groups of {each} outputs"


def image_format(problem: Problem, number: int) -> Format:
    """How a tensor of bytes is stored: channels innermost."""
    return NHWC if problem.types[number].rank == 4 else LINEAR


def formats_of(problem: Problem, region: Quantized) -> tuple[tuple[Format, ...], tuple[Format, ...]]:
    """Of the activations, and of the result: real images in blocks of channels, as the kernels for them read.

    Products read rows of the last axis, whatever the rank.
    """
    if region.anchor.kind in ("FullyConnected", "MatrixMultiply"):
        return (LINEAR,) * len(problem.activations), (LINEAR,)
    number = problem.outputs[0]
    real_image = not region.result.quantized and problem.types[number].rank == 4
    return (
        tuple(image_format(problem, n) for n in problem.activations),
        (NCHW16C if real_image else image_format(problem, number),),
    )
