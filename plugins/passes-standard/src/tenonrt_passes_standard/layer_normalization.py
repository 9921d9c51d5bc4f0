"""Layer normalization that is exported in parts, as exporters before ONNX 17 and TensorFlow do."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor, is_float

from tenonrt_passes_standard.matching import axes_of, maker, scalar, sole


@dataclass(frozen=True)
class Centred:
    """x - mean(x) over its last axes, from ``axis`` on."""

    source: Tensor
    axis: int


class FuseLayerNormalization(Pass):
    """(x - mean) / sqrt(mean((x - mean) ** 2) + epsilon) over the last axes, or times the reciprocal of the root."""

    kinds = frozenset({"Elementwise"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        operation = layer.attrs.operation
        pairs = [layer.inputs[:2]] if operation == "div" else []
        if operation == "prod":
            for first, second in (layer.inputs[:2], layer.inputs[1::-1]):
                inverse = sole(view, second, "Unary", "recip")
                pairs += [(first, inverse.inputs[0])] if inverse is not None else []
        for difference, root in pairs:
            centred = _centred(view, difference)
            epsilon = None if centred is None else _epsilon(view, root, difference, centred.axis)
            if centred is not None and epsilon is not None:
                return _normalized(layer, centred, epsilon)
        return None


def _normalized(layer: Layer, centred: Centred, epsilon: float) -> Patch | None:
    result = layer.outputs[0]
    if result.type != centred.source.type:
        return None
    patch = Patch("with what is before it, it normalizes the last axes")
    attrs = {"axis": centred.axis, "epsilon": epsilon}
    patch.replace(result, patch.add("LayerNormalization", [centred.source], attrs)[0])
    return patch


def _centred(view: GraphView, tensor: Tensor | None) -> Centred | None:
    difference = maker(view, tensor, "Elementwise", "sub")
    mean = None if difference is None else maker(view, difference.inputs[1], "Reduce", "mean")
    source = None if mean is None else mean.inputs[0]
    if difference is None or mean is None or source is None or difference.inputs[0] is not source:
        return None
    axes = axes_of(mean)
    last = axes == tuple(range(source.type.rank - len(axes), source.type.rank))
    if not axes or not last or not mean.attrs.keep_dims or not is_float(source.type.dtype):
        return None
    return Centred(source, axes[0])


def _epsilon(view: GraphView, root: Tensor | None, difference: Tensor | None, axis: int) -> float | None:
    """Of sqrt(mean(difference ** 2) + epsilon); None where the root is of anything else."""
    square_root = sole(view, root, "Unary", "sqrt")
    total = None if square_root is None else sole(view, square_root.inputs[0], "Elementwise", "sum")
    if total is None:
        return None
    for variance, shift in (total.inputs[:2], total.inputs[1::-1]):
        epsilon, mean = scalar(shift), sole(view, variance, "Reduce", "mean")
        if epsilon is None or epsilon < 0 or mean is None or not mean.attrs.keep_dims:
            continue
        axes = axes_of(mean)
        if axes and axes[0] == axis and _is_square(view, mean.inputs[0], difference):
            return epsilon
    return None


def _is_square(view: GraphView, tensor: Tensor | None, of: Tensor | None) -> bool:
    power = sole(view, tensor, "Elementwise", "pow")
    if power is not None:
        return power.inputs[0] is of and scalar(power.inputs[1]) == 2.0
    product = sole(view, tensor, "Elementwise", "prod")
    return product is not None and product.inputs[0] is of and product.inputs[1] is of


class FuseNormalizationAffine(Pass):
    """A constant factor, then a constant shift, after a LayerNormalization that has none of its own."""

    kinds = frozenset({"Elementwise"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        slot = {"prod": 1, "sum": 2}.get(layer.attrs.operation)
        if slot is None:
            return None
        for source, other in (layer.inputs[:2], layer.inputs[1::-1]):
            before = sole(view, source, "LayerNormalization")
            if before is None or before.attrs.statistics or other is None or other.constant is None:
                continue
            given = [*before.inputs, None, None][:3]
            if given[slot] is not None or (slot == 1 and given[2] is not None):
                continue
            if layer.outputs[0].type == before.outputs[0].type and other.type.dtype == before.outputs[0].type.dtype:
                given[slot] = other
                patch = Patch(f"{before.name!r} takes it along")
                patch.replace(layer.outputs[0], patch.add("LayerNormalization", given, before.attrs)[0])
                return patch
        return None
