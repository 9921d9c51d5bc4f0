"""Transposed convolution as convolutions of stride 1: the outputs at each place between two strides are one of them.

Element o of the result gets input i through tap t of the window where i * stride + t * dilation = o + crop. All o with
the same rest of (o + crop) / stride have the same taps, so each rest is a convolution with these taps, backwards, whose
results lie a stride apart (Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?").
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import gcd

import numpy as np
from tenonrt.contracts import Array, Problem, WindowAxis, transposed_crop, window_axes

from tenonrt_kernel_llvm.contraction.geometry import Axis, Geometry
from tenonrt_kernel_llvm.indexing import known

MAX_PARTS = 64  # code is written for each; stride 8 in both axes


@dataclass(frozen=True)
class Part:
    """One of the convolutions. taps: which of the window's rows and columns it multiplies with, in its order."""

    geometry: Geometry
    taps: tuple[tuple[int, ...], tuple[int, ...]]

    def weights(self, dense: Array) -> Array:
        """Its part of weights [C, outputs / groups, rows, columns], as [outputs, C / groups, rows, columns]."""
        groups = self.geometry.groups
        own = dense[:, :, self.taps[0]][..., self.taps[1]]
        channels, each, rows, columns = own.shape
        split = own.reshape(groups, channels // groups, each, rows, columns)
        return np.ascontiguousarray(split.swapaxes(1, 2).reshape(groups * each, channels // groups, rows, columns))


def read_parts(problem: Problem) -> list[Part] | str:
    """The convolutions that a problem whose first layer is a Deconvolution is made of, or why there are none."""
    layer = problem.layer
    source, weights, result = (problem.types[t] for t in (layer.inputs[0], layer.inputs[1], layer.outputs[0]))
    if {t.dtype for t in (source, weights, result)} != {"float32"}:
        return f"computes in float32, not {source.dtype}"
    if source.rank not in (3, 4):
        return f"images of 1 or 2 spatial axes, not {source.rank - 2}"
    if layer.inputs[0] in problem.constants or any(t not in (-1, *problem.constants) for t in layer.inputs[1:]):
        return "the input must be computed, weights and bias constant"
    if not weights.static or not source.reshape(source.shape[1:]).static or not result.reshape(result.shape[1:]).static:
        return "all sizes but the batch must be known"
    shapes = [[known(d) for d in type.shape[1:]] for type in (source, weights, result)]
    if any(0 in shape for shape in shapes):
        return "a size is 0"
    (channels, *sizes), (_, *window), (outputs, *made) = shapes
    axes = _axes(problem, window, sizes, made)
    count = len(axes[0]) * len(axes[1])
    if count > MAX_PARTS:
        return f"strides that make {count} parts; at most {MAX_PARTS}"
    batch, groups = source.shape[0], layer.attrs.groups
    return [
        Part(Geometry(batch, channels, outputs, groups, y, x), (rows, columns))
        for (y, rows), (x, columns) in itertools.product(*axes)
    ]


def parts_of(problem: Problem) -> list[Part]:
    """The convolutions of a problem that `supports` has accepted."""
    parts = read_parts(problem)
    assert not isinstance(parts, str), parts
    return parts


Split = list[tuple[Axis, tuple[int, ...]]]


def _axes(problem: Problem, window: list[int], sizes: list[int], made: list[int]) -> tuple[Split, Split]:
    """What rows and columns are split into; those of one spatial axis have a single row."""
    attrs = problem.layer.attrs
    windows = window_axes(
        window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode
    )
    extra = attrs.output_padding or (0,) * len(windows)
    splits = [
        _split(axis, size, count, transposed_crop(axis, size, count, more, wanted=bool(attrs.output_shape)))
        for axis, size, count, more in zip(windows, sizes, made, extra, strict=True)
    ]
    return (splits[0] if len(splits) == 2 else [(Axis(1, 1, 1, 1, 1, 0), (0,))]), splits[-1]


def _split(axis: WindowAxis, size: int, made: int, crop: int) -> Split:
    """The convolutions along one axis, with the taps of each."""
    stride, shared = axis.stride, gcd(axis.stride, axis.dilation)
    dilation = axis.dilation // shared
    found: Split = []
    for first in range(min(stride, made)):
        taps = [t for t in range(axis.window) if (first + crop - t * axis.dilation) % stride == 0]
        # Backwards: the last tap meets the first element.
        begin = (first + crop - taps[-1] * axis.dilation) // stride if taps else 0
        count = -(-(made - first) // stride)
        found.append((Axis(size, count, len(taps), 1, dilation, -begin, first, stride, made), tuple(taps[::-1])))
    return found
