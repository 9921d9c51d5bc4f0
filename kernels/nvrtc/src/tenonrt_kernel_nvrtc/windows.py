"""Windows over images whose sizes are known: what an output position reads."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import Problem, ProblemLayer


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
    attrs, rank = layer.attrs, len(sizes)
    given = problem.types[layer.inputs[0]].concrete({})[2:]
    made = problem.types[layer.outputs[0]].concrete({})[2:]
    ones, zeros = (1,) * rank, (0,) * rank
    found = []
    for k in range(rank):
        stride, dilation = (attrs.stride or ones)[k], (attrs.dilation or ones)[k]
        before, after = (attrs.pre_padding or zeros)[k], (attrs.post_padding or zeros)[k]
        if attrs.padding_mode != "explicit":
            spread = (sizes[k] - 1) * dilation + 1
            missing = max((made[k] - 1) * stride + spread - given[k], 0) if attrs.padding_mode != "valid" else 0
            before = missing // 2 if attrs.padding_mode == "same_upper" else missing - missing // 2
            after = missing - before
        found.append(Window(given[k], made[k], sizes[k], stride, dilation, before, after))
    return found
