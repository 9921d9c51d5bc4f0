"""Local response normalization as exporters write it: squares, a window of channels averaged, a power, a quotient.

x * x -> Reshape to [N, 1, C, ...] -> Padding of the channels by zeros -> average Pooling over the channels -> Squeeze
-> * alpha -> + k -> ** beta -> x / that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tenonrt.contracts import GraphView, Layer, Problem, Tensor

from tenonrt_kernel_llvm.operations import scalar_values

KINDS = ("Elementwise", "Reshape", "Padding", "Pooling", "Squeeze", *["Elementwise"] * 4)
_POOLING = KINDS.index("Pooling")
_OPERATIONS = {0: "prod", 5: "prod", 6: "sum", 7: "pow", 8: "div"}


@dataclass(frozen=True)
class Response:
    """x / (k + scale * sum of squares over ``before`` channels, its own, and ``after`` channels) ** beta."""

    before: int
    after: int
    scale: float
    k: float
    beta: float


def read_response(problem: Problem) -> Response | str:
    """The normalization that a problem asks for, or why it asks for none."""
    if problem.kinds == ("LRN",):
        a = problem.layer.attrs
        return Response((a.window - 1) // 2, a.window // 2, a.alpha / a.window, a.k, a.beta)
    if problem.kinds != KINDS:
        return f"{' + '.join(problem.kinds)} is no local response normalization"
    return _read_chain(problem)


def chain_region(view: GraphView, pooling: Layer) -> list[Layer] | None:
    """The chain that a pooling is in the middle of; None when it is in none. What it computes is checked later."""
    before = _upwards(view, pooling)
    after = _downwards(view, pooling)
    if before is None or after is None:
        return None
    region = [*before, pooling, *after]
    inner = [layer.outputs[0] for layer in region[:-1]]
    if any(view.is_output(t) for t in inner) or any(len(view.consumers(t)) != 1 for t in inner):
        return None
    source = region[0].inputs[0]
    same = source is not None and region[0].inputs[1] is source and region[-1].inputs[0] is source
    return region if same and tuple(layer.kind for layer in region) == KINDS else None


def _upwards(view: GraphView, layer: Layer) -> list[Layer] | None:
    found: list[Layer] = []
    for kind in reversed(KINDS[:_POOLING]):
        tensor = (found[0] if found else layer).inputs[0]
        producer = None if tensor is None else view.producer(tensor)
        if producer is None or producer.kind != kind:
            return None
        found.insert(0, producer)
    return found


def _downwards(view: GraphView, layer: Layer) -> list[Layer] | None:
    found: list[Layer] = []
    for kind in KINDS[_POOLING + 1 :]:
        result: Tensor = (found[-1] if found else layer).outputs[0]
        readers = view.consumers(result)
        if len(readers) != 1 or readers[0].kind != kind:
            return None
        found.append(readers[0])
    return found


def _read_chain(problem: Problem) -> Response | str:
    layers = problem.layers
    if any(layers[i].attrs.operation != operation for i, operation in _OPERATIONS.items()):
        return "other operations than those of local response normalization"
    linked = all(b.inputs[0] == a.outputs[0] for a, b in pairwise(layers[:-1]))
    ends = layers[0].inputs == (0, 0) and layers[-1].inputs == (0, layers[-2].outputs[0])
    if not (linked and ends and problem.outputs == layers[-1].outputs):
        return "layers that are not linked as in local response normalization"
    known = scalar_values(problem)
    numbers = [known.get(layers[i].inputs[1]) for i in (5, 6, 7)]
    padding, window = _padding(problem), _window(layers[_POOLING].attrs)
    if None in numbers or padding is None or window is None:
        return "a padding, a window or factors that are not those of local response normalization"
    if sum(padding) + 1 != window:
        return f"a window of {window} channels with {padding} channels of padding"
    alpha, k, beta = (float(n) for n in numbers if n is not None)
    return Response(*padding, alpha / window, k, beta)


def _padding(problem: Problem) -> tuple[int, int] | None:
    """Zeros before and after the channels, when nothing else is padded and the reshapes only make up an axis."""
    padding, source = problem.layers[2], problem.types[0]
    spread = (source.shape[0], 1, *source.shape[1:])
    reshaped = problem.types[padding.inputs[0]].shape
    if reshaped != spread or problem.types[problem.layers[4].outputs[0]].shape != source.shape:
        return None
    value = padding.inputs[2] if len(padding.inputs) > 2 else -1
    axes = padding.inputs[3] if len(padding.inputs) > 3 else -1
    pads = problem.inputs[padding.inputs[1]].value if padding.inputs[1] < len(problem.inputs) else None
    zero = value < 0 or scalar_values(problem).get(value) == 0
    if padding.attrs.mode != "constant" or not zero or axes >= 0 or pads is None:
        return None
    rank = len(spread)
    others = [p for i, p in enumerate(pads) if i % rank != 2]
    if len(pads) != 2 * rank or any(others) or min(pads) < 0:
        return None
    return int(pads[2]), int(pads[2 + rank])


def _window(attrs: Any) -> int | None:
    """The channels that a pooling averages, when it does nothing else."""
    plain = attrs.function == "average" and attrs.padding_mode in ("explicit", "valid") and not attrs.ceil
    ones: tuple[Sequence[int], ...] = (attrs.stride, attrs.dilation, attrs.window[1:])
    zeros: tuple[Sequence[int], ...] = (attrs.pre_padding, attrs.post_padding)
    if not plain or any(v != 1 for row in ones for v in row) or any(v for row in zeros for v in row):
        return None
    return int(attrs.window[0])
