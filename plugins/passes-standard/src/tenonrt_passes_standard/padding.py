"""Zeros around an image go into the convolution that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from tenonrt.contracts import GraphView, Layer, Pass, Patch

from tenonrt_passes_standard.matching import sole


class FusePadding(Pass):
    """Padding of spatial axes by zeros, and a Convolution with padding of its own or none."""

    kinds = frozenset({"Convolution"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        padding = sole(view, layer.inputs[0], "Padding")
        if padding is None or padding_value(padding) != 0:
            return None
        attrs = widened(layer, padding)
        if attrs is None:
            return None
        patch = Patch(f"it pads as {padding.name!r} did")
        patch.replace(layer.outputs[0], patch.add("Convolution", [padding.inputs[0], *layer.inputs[1:]], attrs)[0])
        return patch


def widened(layer: Layer, padding: Layer) -> Any:
    """A layer's attributes with what a Padding adds to spatial axes; None where that pads anything else."""
    sides = _spatial_amounts(padding)
    if sides is None or layer.attrs.padding_mode not in ("explicit", "valid"):
        return None
    begin, end = sides
    own = layer.attrs if layer.attrs.padding_mode == "explicit" else None
    before = _sum(begin, own.pre_padding if own else ())
    after = _sum(end, own.post_padding if own else ())
    return msgspec.structs.replace(layer.attrs, pre_padding=before, post_padding=after, padding_mode="explicit")


def padding_value(padding: Layer) -> float | None:
    """What a Padding surrounds its input by; None where that is not known or not one number."""
    value = padding.inputs[2] if len(padding.inputs) > 2 else None
    if padding.attrs.mode != "constant" or (value is not None and value.constant is None):
        return None
    return 0.0 if value is None or value.constant is None else float(value.constant.reshape(-1)[0])


def _sum(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(first, second or (0,) * len(first), strict=True))


def _spatial_amounts(padding: Layer) -> tuple[list[int], list[int]] | None:
    """How many elements are added before and after each spatial axis; None where other axes are padded or cut."""
    source, pads, _, axes = (*padding.inputs, None, None)[:4]
    if source is None or pads is None or pads.constant is None or (axes is not None and axes.constant is None):
        return None
    rank = source.type.rank
    chosen = list(range(rank))
    if axes is not None and axes.constant is not None:
        chosen = [int(a) % rank for a in axes.constant.reshape(-1)]
    amounts = [int(p) for p in pads.constant.reshape(-1)]
    begin, end = [0] * rank, [0] * rank
    for position, axis in enumerate(chosen):
        begin[axis], end[axis] = amounts[position], amounts[position + len(chosen)]
    if rank < 3 or min(*begin, *end) < 0 or any((*begin[:2], *end[:2])):
        return None
    return begin[2:], end[2:]
