"""Quantize and Dequantize layers where kernels find them: one for each reader, beside what computes, no detours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import BYTES, GraphView, Layer, NewTensor, Pass, Patch, Tensor

# Layers that only move elements: they do the same to stored integers. Their other inputs are shapes, axes and indices.
MOVING = frozenset({
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand", "Tile", "DepthToSpace",
    "SpaceToDepth",
})  # fmt: skip


class SplitDequantize(Pass):
    """A reader of a dequantized tensor that others read too gets a Dequantize layer of its own.

    Kernels take that layer into their region, which no second reader may look into.
    """

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if layer.kind == "Dequantize" or len(layer.outputs) != 1 or _owns_graphs(view, layer):
            return None
        shared = [t for t in layer.inputs if t is not None and _is_shared(view, t)]
        if not shared or not (view.consumers(layer.outputs[0]) or view.is_output(layer.outputs[0])):
            return None
        patch = Patch("its operand is dequantized for it alone")
        inputs = [_again(view, patch, t) if t is not None and t in shared else t for t in layer.inputs]
        patch.replace(layer.outputs[0], patch.add(layer.kind, inputs, layer.attrs)[0])
        return patch


def _owns_graphs(view: GraphView, layer: Layer) -> bool:
    from tenonrt_passes_standard.constants import owns_subgraphs

    return owns_subgraphs(view.layer_type(layer))


def _is_shared(view: GraphView, tensor: Tensor) -> bool:
    maker = view.producer(tensor)
    if maker is None or maker.kind != "Dequantize":
        return False
    return len(view.consumers(tensor)) > 1 or view.is_output(tensor)


def _again(view: GraphView, patch: Patch, tensor: Tensor) -> NewTensor:
    maker = view.producer(tensor)
    assert maker is not None
    return patch.add("Dequantize", maker.inputs, maker.attrs, name=maker.name)[0]


class DropZeroPoints(Pass):
    """A zero point of zeros is none."""

    kinds = frozenset({"Quantize", "Dequantize"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        zero = layer.inputs[2] if len(layer.inputs) > 2 else None
        if zero is None or zero.constant is None or np.any(zero.constant):
            return None
        patch = Patch("its zero point is zero")
        patch.replace(layer.outputs[0], patch.add(layer.kind, [*layer.inputs[:2], None], layer.attrs)[0])
        return patch


class ShareQuantize(Pass):
    """What several layers quantize in the same way is quantized once: tools write a Quantize for each product that
    reads a tensor, and kernels take one along."""

    kinds = frozenset({"Quantize"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source = layer.inputs[0]
        if source is None or view.is_output(layer.outputs[0]):
            return None
        for other in view.consumers(source):
            if other is layer:
                return None  # the first one stays
            if other.kind == "Quantize" and other.attrs == layer.attrs and same_grid([other, layer]):
                patch = Patch("another layer quantizes the tensor in the same way")
                patch.replace(layer.outputs[0], other.outputs[0])
                return patch
        return None


class CancelQuantization(Pass):
    """What is quantized as it was before it was dequantized has not changed."""

    kinds = frozenset({"Quantize"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source = layer.inputs[0]
        maker = None if source is None else view.producer(source)
        if maker is None or maker.kind != "Dequantize" or maker.inputs[0] is None:
            return None
        stored, result = maker.inputs[0], layer.outputs[0]
        if stored.type != result.type or not same_grid([maker, layer]) or view.is_output(result):
            return None
        patch = Patch("it is quantized as it was before")
        patch.replace(result, stored)
        return patch


class MoveDequantize(Pass):
    """Layers that move elements, and maxima of windows, do the same to integers; joined tensors need one grid."""

    kinds = MOVING | {"Pooling", "Concatenation"}

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if len(layer.outputs) != 1 or (layer.kind == "Pooling" and not _takes_maximum(layer)):
            return None
        count = len(layer.inputs) if layer.kind == "Concatenation" else 1
        makers = [None if t is None else view.producer(t) for t in layer.inputs[:count]]
        found = [m for m in makers if m is not None and m.kind == "Dequantize" and not m.attrs.block]
        if not found or len(found) < len(makers) or not same_grid(found) or not _per_tensor(found[0]):
            return None
        if any(m.inputs[0] is None or m.inputs[0].constant is not None for m in found):
            return None
        if not (view.consumers(layer.outputs[0]) or view.is_output(layer.outputs[0])):
            return None
        patch = Patch("it does the same to integers")
        moved = patch.add(layer.kind, [*(m.inputs[0] for m in found), *layer.inputs[count:]], layer.attrs)[0]
        again = patch.add("Dequantize", [moved, *found[0].inputs[1:]], found[0].attrs, name=found[0].name)
        patch.replace(layer.outputs[0], again[0])
        return patch


class MoveQuantize(Pass):
    """What only moves or joins elements, or takes maxima of windows, is done after quantizing: what comes before then
    ends in integers, where kernels quantize in registers."""

    kinds = frozenset({"Quantize"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        real = layer.inputs[0]
        maker = None if real is None else view.producer(real)
        if maker is None or real is None or not _per_tensor(layer) or layer.attrs.block:
            return None
        moves = maker.kind in MOVING | {"Concatenation"} or (maker.kind == "Pooling" and _takes_maximum(maker))
        alone = len(view.consumers(real)) == 1 and not view.is_output(real)
        if not moves or not alone or len(maker.outputs) != 1 or layer.attrs.dtype not in BYTES:
            return None
        count = len(maker.inputs) if maker.kind == "Concatenation" else 1
        sources = [t for t in maker.inputs[:count] if t is not None and t.constant is None]
        if not sources or len(sources) < count or any(view.producer(t) is None for t in sources):
            return None
        patch = Patch(f"{maker.kind} does the same to integers")
        stored = [
            patch.add("Quantize", [t, *layer.inputs[1:]], layer.attrs, name=f"{layer.name}/before{index or ''}")[0]
            for index, t in enumerate(sources)
        ]
        moved = patch.add(maker.kind, [*stored, *maker.inputs[count:]], maker.attrs)[0]
        patch.replace(layer.outputs[0], moved)
        return patch


def _takes_maximum(layer: Layer) -> bool:
    return bool(layer.attrs.function == "max" and not layer.attrs.with_indices)


def _per_tensor(layer: Layer) -> bool:
    scale = layer.inputs[1]
    return scale is not None and scale.type.size == 1


def same_grid(layers: Sequence[Layer]) -> bool:
    """Whether layers have one scale and zero point for the tensor, all the same, and count in one element type."""
    first = layers[0]
    stored = first.inputs[0]
    for layer in layers:
        operands = [*layer.inputs[1:3], None][:2]
        others = [*first.inputs[1:3], None][:2]
        if not _per_tensor(layer) or not all(map(_equal, operands, others)):
            return False
        given = layer.inputs[0]
        if layer.kind == "Dequantize" and (given is None or stored is None or given.type.dtype != stored.type.dtype):
            return False
    return True


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is b:
        return True
    if a is None or b is None or a.constant is None or b.constant is None:
        return False
    return a.constant.size == b.constant.size == 1 and bool(a.constant.reshape(()) == b.constant.reshape(()))
