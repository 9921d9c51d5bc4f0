"""Pointwise tails: the layers that follow an anchor and are computed on its result while that is in registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tenonrt.contracts import GraphView, Layer, Problem, ProblemLayer, Tensor, TensorType

from tenonrt_kernel_llvm.operations import refusal

MAX_TAIL = 24
_DETOUR = 6  # layers between a tensor and where the paths from it meet again
KINDS = frozenset({"Activation", "ParametricRelu", "Elementwise", "Unary", "Select", "Cast"})

Reach = Literal["scalar", "channel", "full"]
Spreads = Callable[[Tensor, Tensor], bool]


def regions_with_tail(view: GraphView, anchor: Layer) -> Iterator[Sequence[Layer]]:
    """The anchor with its longest tail; before it, where the tail reads another large tensor, the part up to there.

    A sum of two convolutions can be taken along by either, and the other one must do without it.
    """
    region = [anchor]
    cuts = [tuple(region)]
    axis = channel_axis(anchor.kind, anchor.outputs[0].type)

    def spreads(tensor: Tensor, result: Tensor) -> bool:
        return reach(tensor.type, result.type, axis) is not None

    while (grown := grow(view, region, spreads, MAX_TAIL)) is not None:
        if any(_foreign(view, layer, [*region, *grown]) for layer in grown):
            cuts.append(tuple(region))
        region += grown
    cuts.append(tuple(region))
    yield from dict.fromkeys(cuts[1:] if len(cuts) > 1 else cuts)


def grow(
    view: GraphView, region: Sequence[Layer], spreads: Spreads, limit: int, kinds: frozenset[str] = KINDS
) -> list[Layer] | None:
    """The next pointwise layers of a region: one, or a few that start from its result and meet again in one tensor.

    spreads: whether a tensor from outside may be an operand beside the result.
    """
    result = region[-1].outputs[0]
    if view.is_output(result) or len(region) >= limit:
        return None
    added: list[Layer] = []
    made = {result}
    while len(added) < _DETOUR:
        readers = {id(r): r for t in made for r in view.consumers(t) if r not in added}
        ready = next((r for r in readers.values() if _fits(view, r, result, made, spreads, kinds)), None)
        if ready is None:
            return None
        added.append(ready)
        made.add(ready.outputs[0])
        inner = made - {ready.outputs[0]}
        closed = all(r in added for t in inner for r in view.consumers(t))
        if closed and not any(view.is_output(t) for t in inner):
            return added
    return None


def _fits(
    view: GraphView, layer: Layer, result: Tensor, made: set[Tensor], spreads: Spreads, kinds: frozenset[str]
) -> bool:
    if layer.kind not in kinds or view.layer_type(layer).pattern != "pointwise" or len(layer.outputs) != 1:
        return False
    if layer.outputs[0].type.shape != result.type.shape:
        return False
    outside = [t for t in layer.inputs if t is not None and t not in made]
    return all(spreads(t, result) and not _follows(view, t, made) for t in outside)


def _follows(view: GraphView, tensor: Tensor, made: set[Tensor]) -> bool:
    """Whether a tensor is computed from what the region makes."""
    producer = view.producer(tensor)
    makers = [maker for t in made if (maker := view.producer(t)) is not None]
    return producer is not None and view.reaches(producer, makers)


def _foreign(view: GraphView, layer: Layer, region: Sequence[Layer]) -> bool:
    """Whether a layer reads a computed tensor from outside the region that is as large as the result."""
    result = region[-1].outputs[0]
    outside = [t for t in layer.inputs if t is not None and t.constant is None and view.producer(t) not in region]
    return any(t.type.shape == result.type.shape for t in outside)


_IMAGES = frozenset({"Convolution", "Deconvolution", "Pooling", "InstanceNormalization", "GroupNormalization", "Lrn"})


def channel_axis(anchor: str, result: TensorType) -> int:
    """The axis of a result whose elements an anchor computes 16 at a time: images' channels, otherwise the last."""
    return 1 if anchor in _IMAGES and result.rank > 1 else result.rank - 1


def reach(type: TensorType, result: TensorType, axis: int) -> Reach | None:
    """How an operand spreads over the result: one element, one for each channel (and image), or all; None: otherwise.

    axis: that of the channels.
    """
    if type.shape == result.shape:
        return "full"
    if type.rank > result.rank:
        return None
    padded = (1,) * (result.rank - type.rank) + tuple(type.shape)
    if all(d == 1 for d in padded):
        return "scalar"
    others = [d for i, d in enumerate(padded) if i not in (0, axis)]
    batch = padded[0] if axis else 1
    # Results that end in channels are computed row by row, whatever image a row is of.
    same_batch = batch == 1 or (batch == result.shape[0] and axis == 1)
    fits = padded[axis] == result.shape[axis] and all(d == 1 for d in others) and same_batch
    return "channel" if fits else None


def operand_reach(problem: Problem, number: int, result: int, axis: int) -> Reach | None:
    """How an operand of a problem spreads over a result; beside a small result too, a constant of one value is a scalar
    and one of a value for each channel spreads over channels: sizes known only when running must not change that.
    """
    type, of = problem.types[number], problem.types[result]
    spread = reach(type, of, axis)
    if spread != "full" or number not in problem.constants:
        return spread
    if type.size == 1:
        return "scalar"
    return "channel" if type.size == type.shape[axis] else "full"


@dataclass(frozen=True)
class Tail:
    """The layers after the anchor, with what they read from outside: tensor number -> how it spreads."""

    layers: tuple[ProblemLayer, ...]
    operands: dict[int, Reach]
    result: int  # the tensor that the anchor writes


def read_tail(problem: Problem) -> Tail | str:
    """The tail of a problem whose first layer is the anchor, or why it is none."""
    result = problem.layers[0].outputs[0]
    layers = problem.layers[1:]
    if len(problem.outputs) != 1 or problem.outputs[0] != (layers[-1] if layers else problem.layers[0]).outputs[0]:
        return "an interior result is wanted outside of the region"
    made, operands = {result}, dict[int, Reach]()
    axis = channel_axis(problem.layer.kind, problem.types[result])
    for layer in layers:
        why = refusal(problem, layer)
        if why:
            return f"its tail has {why}"
        for number in layer.inputs:
            if number in made or number < 0:
                continue
            spread = operand_reach(problem, number, result, axis)
            if spread is None:
                return f"its tail reads {problem.types[number]} beside {problem.types[result]}"
            operands[number] = spread
        made.update(layer.outputs)
    return Tail(layers, operands, result)


def tail_of(problem: Problem) -> Tail:
    """The tail of a problem that `supports` has accepted."""
    tail = read_tail(problem)
    assert not isinstance(tail, str), tail
    return tail
