"""Windows over images whose sizes are known: what an output position reads."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import Problem, ProblemLayer, window_axes


@dataclass(frozen=True)
class Window:
    """Along one axis: elements of the input, of the result, and how the window lies."""

    size: int
    positions: int
    window: int
    stride: int
    dilation: int
    before: int
    after: int


def windows(problem: Problem, sizes: tuple[int, ...], layer: ProblemLayer | None = None) -> list[Window]:
    """Those of a layer, by default the problem's first, a convolution or pooling with windows of ``sizes``."""
    layer = layer or problem.layer
    attrs = layer.attrs
    axes = window_axes(sizes, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode)
    given, made = (problem.types[i].concrete({})[2:] for i in (layer.inputs[0], layer.outputs[0]))
    return [
        Window(size, positions, axis.window, axis.stride, axis.dilation, *axis.padding(size))
        for axis, size, positions in zip(axes, given, made, strict=True)
    ]
