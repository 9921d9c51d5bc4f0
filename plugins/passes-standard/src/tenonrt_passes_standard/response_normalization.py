"""Local response normalization that is exported in parts: squared channels averaged, a power, a quotient."""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor, is_float, only_reader

from tenonrt_passes_standard.matching import scalar, sole

_SAME_ELEMENTS = ("Reshape", "Squeeze", "Unsqueeze")


class FuseLocalResponseNormalization(Pass):
    """x / (k + alpha * averages of x * x over channels) ** beta, as PyTorch's module is exported.

    The averages are a Pooling over x * x with an axis of one before the channels, padded by zeros that count. It is the
    layer that is asked about: it is new where it took in a Padding.
    """

    kinds = frozenset({"Pooling"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        window, source = _averaged_channels(layer), _squared(view, layer.inputs[0])
        if window is None or source is None or not is_float(source.type.dtype):
            return None
        tensor, numbers = _in_shape_of(view, layer.outputs[0], source), list[float]()
        for operation in ("prod", "sum", "pow"):
            reader = _next(view, tensor, operation, 0)
            number = None if reader is None else scalar(reader.inputs[1])
            if reader is None or number is None:
                return None
            tensor = reader.outputs[0]
            numbers.append(number)
        quotient = _next(view, tensor, "div", 1)
        if quotient is None or quotient.inputs[0] is not source:
            return None
        patch = Patch("with what is around it, it is a local response normalization")
        attrs = dict(zip(("alpha", "k", "beta"), numbers, strict=True))
        patch.replace(quotient.outputs[0], patch.add("LRN", [source], {"window": window, **attrs})[0])
        return patch


def _averaged_channels(pooling: Layer) -> int | None:
    """The window of a pooling over the first spatial axis alone, where it lies as that of the layer LRN does."""
    a = pooling.attrs
    size, zeros = int(a.window[0]), (0,) * (len(a.window) - 1)
    plain = a.function == "average" and a.count_includes_padding and a.padding_mode == "explicit"
    if not plain or {*a.window[1:], *a.stride, *a.dilation} - {1}:
        return None
    before, after = ((size - 1) // 2, *zeros), (size // 2, *zeros)
    return size if (tuple(a.pre_padding), tuple(a.post_padding)) == (before, after) else None


def _squared(view: GraphView, spread: Tensor | None) -> Tensor | None:
    """x, where a tensor is x * x with an axis of one before the channels, and nobody else reads the squares."""
    tensor = spread
    while tensor is not None and (layer := view.producer(tensor)) is not None and layer.kind in _SAME_ELEMENTS:
        tensor = layer.inputs[0] if sole(view, tensor, layer.kind) is not None else None
    square = sole(view, tensor, "Elementwise", "prod")
    source = None if square is None else square.inputs[0]
    if spread is None or square is None or source is None or square.inputs[1] is not source or source.type.rank < 2:
        return None
    return source if spread.type.shape[:3] == (source.type.shape[0], 1, source.type.shape[1]) else None


def _in_shape_of(view: GraphView, tensor: Tensor, source: Tensor) -> Tensor | None:
    """The elements of a tensor in the shape of another, which only the layer behind it reads."""
    while (reader := only_reader(view, tensor)) is not None and reader.kind in _SAME_ELEMENTS:
        tensor = reader.outputs[0]
    return tensor if tensor.type.shape == source.type.shape else None


def _next(view: GraphView, tensor: Tensor | None, operation: str, operand: int) -> Layer | None:
    """The only reader of a tensor, where it is this operation with the tensor as this operand."""
    reader = None if tensor is None else only_reader(view, tensor)
    if reader is None or reader.kind != "Elementwise" or reader.attrs.operation != operation:
        return None
    return reader if reader.inputs[operand] is tensor else None
