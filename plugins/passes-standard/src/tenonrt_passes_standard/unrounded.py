"""Rounding that only stands between a product and the next rounding is left out: docs/decisions/0039."""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor, only_reader

from tenonrt_passes_standard.quantization import same_grid

CONTRACTIONS = frozenset({"Convolution", "FullyConnected", "MatrixMultiply"})
BYTES = frozenset({"int8", "uint8"})


class LeaveUnrounded(Pass):
    """The result of a quantized product that is quantized and dequantized before a sum, a ReLU or another Quantize only
    saturates there: it is rounded once, where what follows is quantized.

    Models say it because their writers quantize the result of every operator; kernels have the numbers in registers.
    """

    kinds = frozenset({"Elementwise", "Activation", "Quantize"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if not _ends_quantized(view, layer):
            return None
        operands = layer.inputs[: 2 if layer.kind == "Elementwise" else 1]
        for place, operand in enumerate(operands):
            others = [t for t in operands if t is not operand]
            rounding = _rounding(view, operand)
            if rounding is not None and all(_maker(view, t, "Dequantize") is not None for t in others):
                patch = Patch("it is rounded once, by what quantizes the result")
                attrs = {"dtype": rounding.attrs.dtype}
                (real,) = patch.add("Saturate", rounding.inputs, attrs, name=rounding.name)
                inputs = [real if index == place else t for index, t in enumerate(layer.inputs)]
                patch.replace(layer.outputs[0], patch.add(layer.kind, inputs, layer.attrs)[0])
                return patch
        return None


def _rounding(view: GraphView, operand: Tensor | None) -> Layer | None:
    """The Quantize layer of an operand that a product makes, and that is quantized and dequantized for it alone."""
    again = _maker(view, operand, "Dequantize")
    rounding = None if again is None else _maker(view, again.inputs[0], "Quantize")
    if again is None or rounding is None or not _to_bytes(rounding) or again.attrs.dtype != "float32":
        return None
    if not same_grid([again, rounding]):
        return None
    maker = _maker(view, rounding.inputs[0])
    if maker is not None and _clips(maker):
        maker = _maker(view, maker.inputs[0])
    return rounding if maker is not None and _is_quantized_product(view, maker) else None


def _maker(view: GraphView, tensor: Tensor | None, kind: str = "") -> Layer | None:
    """The layer that makes a tensor for one reader alone, where it is of a kind."""
    maker = None if tensor is None else view.producer(tensor)
    if tensor is None or maker is None or (kind and maker.kind != kind):
        return None
    return maker if only_reader(view, tensor) is not None else None


def _is_quantized_product(view: GraphView, layer: Layer) -> bool:
    return layer.kind in CONTRACTIONS and all(_maker(view, t, "Dequantize") is not None for t in layer.inputs[:2])


def _clips(layer: Layer) -> bool:
    return layer.kind == "Activation" and layer.attrs.function in ("relu", "clip")


def _to_bytes(layer: Layer) -> bool:
    return layer.kind == "Quantize" and layer.attrs.dtype in BYTES and not layer.attrs.block


def _ends_quantized(view: GraphView, layer: Layer) -> bool:
    """Whether a sum, a ReLU or a Quantize is followed by nothing but a ReLU before its result is quantized."""
    if _to_bytes(layer):
        return True
    alike = [t.type.shape for t in layer.inputs if t is not None]
    if layer.kind == "Elementwise" and (layer.attrs.operation != "sum" or len(set(alike)) > 1):
        return False
    if layer.kind != "Elementwise" and not _clips(layer):
        return False
    after = only_reader(view, layer.outputs[0])
    if after is not None and layer.kind == "Elementwise" and _clips(after):
        after = only_reader(view, after.outputs[0])
    return after is not None and _to_bytes(after)
