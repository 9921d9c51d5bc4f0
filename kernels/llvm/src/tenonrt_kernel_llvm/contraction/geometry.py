"""The sizes of a convolution, with those of one spatial axis seen as two."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import Dimension, Problem, WindowAxis, window_axes

from tenonrt_kernel_llvm.emitter import Function, Index, Value
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.target import BLOCK


@dataclass(frozen=True)
class Axis:
    """One spatial axis: input and output size, window, stride, dilation, and elements of padding before the input.

    Negative padding skips elements. The outputs may be some of a longer result's: every ``step``-th from ``first`` on.
    """

    size: int
    output: int
    window: int
    stride: int
    dilation: int
    padding: int
    first: int = 0
    step: int = 1
    whole: int | None = None  # elements of the result, where they are more than the outputs

    @property
    def span(self) -> int:
        """Elements of the result."""
        return self.output if self.whole is None else self.whole

    @property
    def plain(self) -> bool:
        """Whether every output element is made of the input element at its own place."""
        return self.window == self.stride == 1 and self.padding == 0 and self.size == self.span

    def taps(self) -> list[tuple[int, int]]:
        """Per element of the window, the outputs [a, b) that find it inside the input."""
        found = []
        for tap in range(self.window):
            shift = self.padding - tap * self.dilation
            first = max(0, -(-shift // self.stride))
            last = min(self.output, (self.size - 1 + shift) // self.stride + 1)
            found.append((first, max(first, last)))
        return found

    @property
    def padded(self) -> bool:
        """Whether some window reaches beyond the input."""
        return any(tap != (0, self.output) for tap in self.taps())


@dataclass(frozen=True)
class Geometry:
    """A convolution of images [batch, channels, y.size, x.size] to [batch, outputs, y.output, x.output]."""

    batch: Dimension
    channels: int
    outputs: int
    groups: int
    y: Axis
    x: Axis

    @property
    def output_blocks(self) -> int:
        return -(-self.outputs // BLOCK)

    @property
    def flat(self) -> bool:
        """Whether rows are of no account: windows of one element that touch each pixel once."""
        return self.y.plain and self.x.plain

    @property
    def depthwise(self) -> bool:
        return self.groups == self.channels == self.outputs and self.groups > 1


def read_geometry(problem: Problem) -> Geometry | str:
    """The geometry of a problem whose first layer is a Convolution, or why this package does not compute it."""
    layer = problem.layer
    source, weights, result = (problem.types[t] for t in (layer.inputs[0], layer.inputs[1], layer.outputs[0]))
    if {t.dtype for t in (source, weights, result)} != {"float32"}:
        return f"computes in float32, not {source.dtype}"
    if source.rank not in (3, 4):
        return f"images of 1 or 2 spatial axes, not {source.rank - 2}"
    if layer.inputs[0] in problem.constants or any(t not in (-1, *problem.constants) for t in layer.inputs[1:]):
        return "the input must be computed, weights and bias constant"
    if not weights.static or not source.reshape(source.shape[1:]).static:
        return "all sizes but the batch must be known"
    sizes = [known(d) for d in source.shape[2:]]
    outputs = [known(d) for d in result.shape[2:]]
    attrs = layer.attrs
    windows = window_axes(
        [known(d) for d in weights.shape[2:]], attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding,
        attrs.padding_mode,
    )  # fmt: skip
    axes = [_axis(w, size, output) for w, size, output in zip(windows, sizes, outputs, strict=True)]
    y = axes[0] if len(axes) == 2 else Axis(1, 1, 1, 1, 1, 0)
    if 0 in (*sizes, *outputs, *weights.shape):
        return "a size is 0"
    channels, kernels = (known(d) for d in (source.shape[1], weights.shape[0]))
    return Geometry(source.shape[0], channels, kernels, attrs.groups, y, axes[-1])


def geometry_of(problem: Problem) -> Geometry:
    """The geometry of a problem that `supports` has accepted."""
    geometry = read_geometry(problem)
    assert not isinstance(geometry, str), geometry
    return geometry


def _axis(window: WindowAxis, size: int, output: int) -> Axis:
    return Axis(size, output, window.window, window.stride, window.dilation, window.padding(size)[0])


def inside_rows(fn: Function, begin: Value, axis: Axis) -> tuple[Index, Index]:
    """The rows [a, b) of a window that begins at input row ``begin`` (negative in padding) which are in the image."""
    low = (fn.maximum(0, -begin) + (axis.dilation - 1)) // axis.dilation
    room = fn.maximum(0, axis.size + (axis.dilation - 1) - begin)
    return fn.minimum(axis.window, low), fn.minimum(axis.window, room // axis.dilation)
