"""What is put around an image goes into the pooling that reads it, where the pooling's own padding means the same."""

from __future__ import annotations

import math

import msgspec
from tenonrt.contracts import GraphView, Layer, Pass, Patch

from tenonrt_passes_standard.matching import sole
from tenonrt_passes_standard.padding import padding_value, widened


class FusePoolingPadding(Pass):
    """Zeros before averages that count them, before norms, and before maxima of what is not negative.

    A pooling's own padding is never a maximum. Zeros are none either beside an element that is zero or more, which
    every window has.
    """

    kinds = frozenset({"Pooling"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        padding = sole(view, layer.inputs[0], "Padding")
        if padding is None or layer.attrs.ceil or layer.attrs.with_indices or not _means_the_same(view, layer, padding):
            return None
        attrs = widened(layer, padding)
        if attrs is None or not _every_window_has_elements(attrs):
            return None
        if attrs.function == "average":
            attrs = msgspec.structs.replace(attrs, count_includes_padding=True)
        patch = Patch(f"it pads as {padding.name!r} did")
        patch.replace(layer.outputs[0], patch.add("Pooling", [padding.inputs[0]], attrs)[0])
        return patch


def _means_the_same(view: GraphView, layer: Layer, padding: Layer) -> bool:
    value, attrs = padding_value(padding), layer.attrs
    if attrs.function == "max":
        return value == -math.inf or (value == 0 and _is_rectified(view, padding))
    if attrs.function == "average":
        own = attrs.padding_mode == "explicit" and any((*attrs.pre_padding, *attrs.post_padding))
        return value == 0 and (attrs.count_includes_padding or not own)
    return value == 0 and attrs.function == "lp"


def _is_rectified(view: GraphView, padding: Layer) -> bool:
    source = padding.inputs[0]
    before = None if source is None else view.producer(source)
    return before is not None and before.kind == "Activation" and before.attrs.function == "relu"


def _every_window_has_elements(attrs: object) -> bool:
    """Windows without gaps that are wider than the padding on either side."""
    sides = zip(attrs.window, attrs.pre_padding, attrs.post_padding, strict=True)  # type: ignore[attr-defined]
    return not any(d != 1 for d in attrs.dilation) and all(max(a, b) < w for w, a, b in sides)  # type: ignore[attr-defined]
