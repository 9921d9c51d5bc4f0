"""Where a graph has quantized regions: an anchor with the Dequantize layers before it and what follows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tenonrt.contracts import GraphView, Layer, Tensor, only_reader

from tenonrt_kernel_llvm.quantized.problem import BYTES, activation_bounds


def quantized_regions(view: GraphView, anchor: Layer, weighted: bool = True) -> Iterator[Sequence[Layer]]:
    """The anchor with its operands, then as far as it goes: activation, Quantize, sum, activation, Quantize."""
    operands = [_dequantize(view, t) for t in anchor.inputs[: 2 if weighted else 1]]
    if any(layer is None for layer in operands):
        return
    region = [*(layer for layer in operands if layer is not None), anchor]
    grown = _requantized(view, region)
    if grown[-1].kind != "Quantize":  # nothing is gained by leaving it, as bytes are what is stored
        yield tuple(region)
    if len(grown) > len(region) and grown[-1].kind != "Saturate":  # which stands before a sum
        yield tuple(grown)
    added = _added(view, grown)
    if added is not None:
        yield tuple(_requantized(view, added))


def _dequantize(view: GraphView, tensor: Tensor | None) -> Layer | None:
    """The layer that dequantizes a tensor for one reader alone."""
    layer = None if tensor is None else view.producer(tensor)
    if layer is None or layer.kind != "Dequantize" or layer.attrs.block:
        return None
    stored = layer.inputs[0]
    return (
        layer
        if only_reader(view, layer.outputs[0]) is not None and stored is not None and stored.type.dtype in BYTES
        else None
    )


def _requantized(view: GraphView, region: Sequence[Layer]) -> list[Layer]:
    """With the clips and the Quantize that follow."""
    grown = list(region)
    after = only_reader(view, grown[-1].outputs[0])
    while after is not None and _clips(after):
        grown.append(after)
        after = only_reader(view, after.outputs[0])
    if after is not None and _to_bytes(after):
        grown.append(after)
    return grown


def _clips(layer: Layer) -> bool:
    return layer.kind == "Saturate" or (layer.kind == "Activation" and activation_bounds(layer.attrs) is not None)


def _to_bytes(layer: Layer) -> bool:
    if layer.kind != "Quantize" or layer.attrs.dtype not in BYTES or layer.attrs.block:
        return False
    return layer.inputs[1] is not None and layer.inputs[1].type.size == 1


def _added(view: GraphView, region: Sequence[Layer]) -> list[Layer] | None:
    """With the sum with another dequantized tensor, which must not need what the region makes."""
    grown, last = list(region), region[-1]
    after = only_reader(view, last.outputs[0])
    if last.kind == "Quantize" and after is not None and after.kind == "Dequantize":
        grown.append(after)
        last, after = after, only_reader(view, after.outputs[0])
    if after is None or after.kind != "Elementwise" or after.attrs.operation != "sum":
        return None
    others = [t for t in after.inputs if t is not None and t is not last.outputs[0]]
    other = _dequantize(view, others[0]) if len(others) == 1 else None
    if other is None or view.reaches(other, region):
        return None
    return [*grown, other, after]
