"""Products of dequantized weights in the form of products of constants: FullyConnected, and biased.

Folding a Dequantize of weights would take the bytes from kernels that multiply them, so that the passes for products of
constants leave these alone.
"""

from __future__ import annotations

import msgspec
import numpy as np
from tenonrt.contracts import GraphView, Layer, NewTensor, Pass, Patch, Tensor, is_float, only_reader

from tenonrt_passes_standard.linear import Linear

_BIASED = frozenset({"Convolution", "FullyConnected"})


class FuseQuantizedFullyConnected(Pass):
    """``x [..., K]`` times dequantized constants ``[K, N]``, or the transpose of dequantized ``[N, K]``."""

    kinds = frozenset({"MatrixMultiply"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source, weights = layer.inputs[:2]
        maker = _dequantized(view, weights)
        if source is None or weights is None or maker is None or layer.attrs.transpose_a or source.type.rank < 2:
            return None
        stored = maker.inputs[0]
        if stored is None or stored.constant is None or weights.type.rank != 2 or maker.attrs.block:
            return None
        if source.type.dtype != weights.type.dtype or source.constant is not None:
            return None
        patch = Patch("its right operand is a dequantized constant matrix")
        matrix: Tensor | NewTensor = weights
        if not layer.attrs.transpose_b:
            turned = patch.constant(np.ascontiguousarray(stored.constant.T))
            attrs = msgspec.structs.replace(maker.attrs, axis=1 - maker.attrs.axis % 2)
            matrix = patch.add("Dequantize", [turned, *maker.inputs[1:]], attrs, name=maker.name)[0]
        patch.replace(layer.outputs[0], patch.add("FullyConnected", [source, matrix])[0])
        return patch


class FuseQuantizedBias(Pass):
    """A constant that is added to each channel of a product by dequantized weights is its bias."""

    kinds = frozenset({"Elementwise"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        from tenonrt_passes_standard.affine import channels_of

        if layer.attrs.operation != "sum":
            return None
        for position, tensor in enumerate(layer.inputs[:2]):
            product, other = _product(view, tensor), layer.inputs[1 - position]
            if product is None or tensor is None or other is None or other.constant is None:
                continue
            added = channels_of(other.constant, product) if layer.outputs[0].type == tensor.type else None
            if added is None:
                continue
            bias = added if product.bias is None else product.bias.astype(np.float64) + added
            patch = Patch(f"it is a bias of {product.layer.name!r}")
            inputs = [*product.layer.inputs[:2], patch.constant(bias.astype(tensor.type.numpy))]
            patch.replace(layer.outputs[0], patch.add(product.layer.kind, inputs, product.layer.attrs)[0])
            return patch
        return None


def _dequantized(view: GraphView, tensor: Tensor | None) -> Layer | None:
    maker = None if tensor is None else view.producer(tensor)
    return maker if maker is not None and maker.kind == "Dequantize" else None


def _product(view: GraphView, tensor: Tensor | None) -> Linear | None:
    """The product by dequantized constants that makes a tensor for one reader alone."""
    layer = None if tensor is None else view.producer(tensor)
    if tensor is None or layer is None or layer.kind not in _BIASED or not is_float(tensor.type.dtype):
        return None
    maker, bias = _dequantized(view, layer.inputs[1]), layer.inputs[2] if len(layer.inputs) > 2 else None
    stored = None if maker is None else maker.inputs[0]
    if stored is None or stored.constant is None or only_reader(view, tensor) is None:
        return None
    if bias is not None and bias.constant is None:
        return None
    return Linear(layer, stored.constant, None if bias is None else bias.constant)
