"""Layers that change nothing: their readers read their input instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor


class RemoveIdentities(Pass):
    """A layer is an identity when its output has its input's type and its kind's rule below says so.

    Equal shapes are equal for every value of their symbols, so the rules hold for symbolic shapes too. An identity
    between an input of the network (or a constant) and an output, or between two outputs, stays: somebody has to write
    that output.
    """

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        rule = RULES.get(layer.kind)
        if rule is None or len(layer.outputs) != 1 or not layer.inputs:
            return None
        source, result = layer.inputs[0], layer.outputs[0]
        if source is None or source.type != result.type or not rule(layer):
            return None
        if view.is_output(result) and (view.producer(source) is None or view.is_output(source)):
            return None
        if not view.consumers(result) and not view.is_output(result):
            return None
        patch = Patch(f"this {layer.kind} changes nothing")
        patch.replace(result, source)
        return patch


def _always(layer: Layer) -> bool:
    """With types equal, nothing is left that the layer could do."""
    return True


def _keeps_order(layer: Layer) -> bool:
    """A permutation that moves axes of size 1 only, between equal shapes."""
    shape = layer.outputs[0].type.shape
    permutation = layer.attrs.permutation or tuple(reversed(range(len(shape))))
    moved = [axis % len(shape) for axis in permutation]
    return [axis for axis in moved if shape[axis] != 1] == [a for a in sorted(moved) if shape[a] != 1]


def _steps_forward(layer: Layer) -> bool:
    """Slices with positive steps that keep every axis's size keep every element."""
    steps = layer.inputs[4] if len(layer.inputs) > 4 else None
    return steps is None or _holds(steps, lambda step: step > 0)


def _pads_nothing(layer: Layer) -> bool:
    """Equal shapes do not suffice: a pad of 1 and a crop of 1 would shift."""
    pads = layer.inputs[1]
    return pads is not None and _holds(pads, lambda pad: pad == 0)


def _joins_one(layer: Layer) -> bool:
    return sum(t is not None for t in layer.inputs) == 1


def _scales_nothing(layer: Layer) -> bool:
    """Shift 0, scale 1, power 1, as far as they are given."""
    neutral = zip(layer.inputs[1:], (0, 1, 1), strict=False)
    return all(t is None or (t.constant is not None and (t.constant == value).all()) for t, value in neutral)


def _holds(tensor: Tensor, condition: Callable[[int], bool]) -> bool:
    """Whether all elements are known integers for which the condition holds."""
    value = tensor.constant if tensor.constant is not None else tensor.info.value
    return value is not None and all(
        isinstance(v, int | np.integer) and condition(int(v)) for v in value.reshape(-1).tolist()
    )


# Reshapes keep the order of elements, so an equal shape is an equal tensor; Expand and Tile repeat nothing then.
RULES: dict[str, Callable[[Layer], bool]] = {
    "Identity": _always,
    "Cast": _always,
    "Reshape": _always,
    "Squeeze": _always,
    "Unsqueeze": _always,
    "Flatten": _always,
    "Expand": _always,
    "Tile": _always,
    "Split": _always,
    "Transpose": _keeps_order,
    "Slice": _steps_forward,
    "Padding": _pads_nothing,
    "Concatenation": _joins_one,
    "Scale": _scales_nothing,
}
