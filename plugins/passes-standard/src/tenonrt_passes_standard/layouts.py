"""Transposes that put channels last move down, past all that does not care, until the next one undoes them.

Networks of frameworks that keep channels last become layers that want them first between two transposes each. Once a
transpose has passed the layers in between, `JoinTransposes` cancels it with the one that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, NewTensor, Pass, Patch, Tensor

from tenonrt_passes_standard.shuffles import JoinShuffles, permutation

Permutation = tuple[int, ...]

# Elements of the result depend on those at the same place: operands broadcast.
POINTWISE = frozenset({"Activation", "Unary", "Elementwise", "Select", "Cast", "ParametricRelu"})
ALONG = frozenset({"Concatenation", "Softmax", "Split"})  # one axis is an attribute
REDUCING = frozenset({"Reduce", "ArgReduce", "Squeeze"})  # axes are attributes, and may go
LISTING = {"Padding": 3, "Slice": 3}  # axes are an input, this one
MOVING = POINTWISE | ALONG | REDUCING | frozenset(LISTING) | frozenset({"Reshape", "Flatten"})
# A transpose is a matter of layout when what it turns was computed with channels first, or has moved down already.
NATIVE = frozenset(
    {"Convolution", "Deconvolution", "Pooling", "BatchNormalization", "InstanceNormalization", "GroupNormalization",
     "LRN", "Resize", "DepthToSpace", "SpaceToDepth", "Scale"}
) | (MOVING - {"Reshape", "Flatten", "Squeeze"})  # fmt: skip


class JoinTransposes(JoinShuffles):
    """Transposes of transposes alone, before layers are fused."""

    kinds = frozenset({"Transpose"})


class SinkTransposes(Pass):
    """``f(transpose(x))`` becomes ``transpose(f'(x))`` for layers that act on each element, or along axes by number.

    Only where every reader of the transpose takes part, so that it goes away; the others would keep it for themselves.
    """

    kinds = MOVING

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        first = next((t for t in layer.inputs if t is not None and layout(view, t) is not None), None)
        if first is None:
            return None
        order = layout(view, first)
        assert order is not None
        patch = Patch("channels stay first: the transpose before it moves behind it")
        return patch if _RULES[_family(layer.kind)](view, layer, order, patch) else None


def layout(view: GraphView, tensor: Tensor) -> Permutation | None:
    """The permutation of a transpose to channels last, if it is one that shall move."""
    layer = view.producer(tensor)
    if layer is None or layer.kind != "Transpose" or view.is_output(tensor):
        return None
    source, order = layer.inputs[0], permutation(layer)
    if source is None or len(order) < 4 or order != (0, *range(2, len(order)), 1):
        return None
    above = view.producer(source)
    if above is None or above.kind not in NATIVE:
        return None
    return order if all(_takes_part(view, reader, source, order) for reader in view.consumers(tensor)) else None


def _takes_part(view: GraphView, reader: Layer, source: Tensor, order: Permutation) -> bool:
    """Whether a transpose can leave this reader: one that reshapes has to care about channels in vain, or be undone."""
    if reader.kind in ("Reshape", "Flatten"):
        flattened = view.consumers(reader.outputs[0])
        kinds = {r.kind for r in flattened} | ({"output"} if view.is_output(reader.outputs[0]) else set())
        return _keeps_order(source.type.shape, order) or kinds == {"FullyConnected"}
    return reader.kind in MOVING or reader.kind == "Transpose"


def _family(kind: str) -> str:
    for family, kinds in (("pointwise", POINTWISE), ("along", ALONG), ("reducing", REDUCING), ("listing", LISTING)):
        if kind in kinds:
            return family
    return "reshaping"


def _pointwise(view: GraphView, layer: Layer, order: Permutation, patch: Patch) -> bool:
    result = layer.outputs[0]
    operands = [None if t is None else _moved(view, t, order, patch) for t in layer.inputs]
    if result.type.rank != len(order) or any(t is not None and o is None for t, o in _pairs(layer, operands)):
        return False
    _finish(layer, patch.add(layer.kind, operands, layer.attrs)[0], order, patch)
    return True


def _pairs(layer: Layer, operands: Sequence[Any]) -> list[tuple[Tensor | None, Any]]:
    return list(zip(layer.inputs, operands, strict=True))


def _moved(view: GraphView, tensor: Tensor, order: Permutation, patch: Patch) -> Tensor | NewTensor | None:
    """An operand with its channels first; None where that would take a transpose more."""
    if layout(view, tensor) == order:
        producer = view.producer(tensor)
        return None if producer is None else producer.inputs[0]
    if tensor.type.rank == 0:
        return tensor
    back = _inverse(order)
    if tensor.constant is not None:
        whole = tensor.constant.reshape((1,) * (len(order) - tensor.type.rank) + tensor.constant.shape)
        return patch.constant(np.ascontiguousarray(whole.transpose(back)))
    shape = tensor.type.shape
    if len(shape) != len(order) or not _keeps_order(shape, back):
        return None
    sizes = [shape[axis] if isinstance(shape[axis], int) else -1 for axis in back]
    if sizes.count(-1) > 1:
        return None
    return patch.add("Reshape", [tensor, patch.constant(np.array(sizes, np.int64))], {"zero_copies": False})[0]


def _along(view: GraphView, layer: Layer, order: Permutation, patch: Patch) -> bool:
    data = layer.inputs if layer.kind == "Concatenation" else layer.inputs[:1]
    operands = [None if t is None else _source(view, t, order) for t in data]
    if any(operand is None for operand in operands):
        return False
    attrs = _replaced(layer, axis=order[layer.attrs.axis % len(order)])
    operands += layer.inputs[len(data) :]
    results = patch.add(layer.kind, operands, attrs, outputs=len(layer.outputs))
    for old, new in zip(layer.outputs, results, strict=True):
        patch.replace(old, patch.add("Transpose", [new], {"permutation": order})[0])
    return True


def _source(view: GraphView, tensor: Tensor, order: Permutation) -> Tensor | None:
    """What a transpose of this order turns."""
    producer = view.producer(tensor) if layout(view, tensor) == order else None
    return None if producer is None else producer.inputs[0]


def _reducing(view: GraphView, layer: Layer, order: Permutation, patch: Patch) -> bool:
    source = _source(view, layer.inputs[0], order) if layer.inputs[0] is not None else None
    axes = _reduced(layer, len(order))
    if source is None or axes is None:
        return False
    moved = tuple(sorted(order[axis] for axis in axes))
    attrs = _replaced(layer, axis=moved[0]) if layer.kind == "ArgReduce" else _replaced(layer, axes=moved)
    result = patch.add(layer.kind, [source, *layer.inputs[1:]], attrs)[0]
    if getattr(layer.attrs, "keep_dims", False):
        _finish(layer, result, order, patch)
        return True
    # Of the axes that stay, where each is now among those of the result.
    left = sorted(order[axis] for axis in range(len(order)) if axis not in axes)
    _finish(layer, result, tuple(left.index(order[a]) for a in range(len(order)) if a not in axes), patch)
    return True


def _reduced(layer: Layer, rank: int) -> Sequence[int] | None:
    """The axes of the layer's input that it reduces or removes."""
    if layer.kind == "ArgReduce":
        return [layer.attrs.axis % rank]
    axes, source = layer.attrs.axes, layer.inputs[0]
    if axes is None and layer.kind == "Reduce":
        return list(range(rank))
    if axes is None:
        shape = () if source is None else source.type.shape
        return (
            [axis for axis, size in enumerate(shape) if size == 1] if all(isinstance(s, int) for s in shape) else None
        )
    return [axis % rank for axis in axes]


def _listing(view: GraphView, layer: Layer, order: Permutation, patch: Patch) -> bool:
    place = LISTING[layer.kind]
    source = _source(view, layer.inputs[0], order) if layer.inputs[0] is not None else None
    bounds, given = layer.inputs[1], layer.inputs[place] if len(layer.inputs) > place else None
    if source is None or bounds is None or (given is not None and given.constant is None):
        return False
    count = bounds.type.shape[0]
    if given is not None:
        listed = _values(given.constant)
    elif isinstance(count, int):
        listed = list(range(count if layer.kind == "Slice" else len(order)))
    else:
        return False
    axes = patch.constant(np.array([order[axis % len(order)] for axis in listed], np.int64))
    inputs = [*layer.inputs, *[None] * (place + 1 - len(layer.inputs))]
    inputs[0] = source
    operands: list[Any] = [*inputs[:place], axes, *inputs[place + 1 :]]
    _finish(layer, patch.add(layer.kind, operands, layer.attrs)[0], order, patch)
    return True


def _values(array: Array | None) -> list[int]:
    return [] if array is None else [int(value) for value in array.reshape(-1)]


def _reshaping(view: GraphView, layer: Layer, order: Permutation, patch: Patch) -> bool:
    """What moves only axes of length one leaves the bytes as they are."""
    source = _source(view, layer.inputs[0], order) if layer.inputs[0] is not None else None
    if source is None or not _keeps_order(source.type.shape, order):
        return False
    if layer.kind == "Flatten" and layer.attrs.axis not in (0, 1):
        return False
    if layer.kind == "Reshape":
        shape = layer.inputs[1]
        if shape is None or shape.constant is None or (layer.attrs.zero_copies and 0 in shape.constant):
            return False
    patch.replace(layer.outputs[0], patch.add(layer.kind, [source, *layer.inputs[1:]], layer.attrs)[0])
    return True


def _finish(layer: Layer, result: NewTensor, order: Permutation, patch: Patch) -> None:
    """The layer's result in the order in which its readers expect it."""
    if order != tuple(range(len(order))):
        (result,) = patch.add("Transpose", [result], {"permutation": order})
    patch.replace(layer.outputs[0], result)


def _keeps_order(shape: Sequence[Any], order: Permutation) -> bool:
    """Whether the axes that have more than one element stay in order."""
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)


def _inverse(order: Permutation) -> Permutation:
    return tuple(order.index(axis) for axis in range(len(order)))


def _replaced(layer: Layer, **changed: Any) -> dict[str, Any]:
    attrs = {name: getattr(layer.attrs, name) for name in layer.attrs.__struct_fields__}
    return {**attrs, **changed}


_RULES: dict[str, Callable[[GraphView, Layer, Permutation, Patch], bool]] = {
    "pointwise": _pointwise,
    "along": _along,
    "reducing": _reducing,
    "listing": _listing,
    "reshaping": _reshaping,
}


class FlattenChannelsFirst(Pass):
    """A fully connected layer of a flattened image takes the order of its weights' columns from the image's layout."""

    kinds = frozenset({"FullyConnected", "Reshape", "Flatten"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        readers = [layer] if layer.kind == "FullyConnected" else view.consumers(layer.outputs[0])
        patches = (_reordered(view, reader) for reader in readers if reader.kind == "FullyConnected")
        return next((patch for patch in patches if patch is not None), None)


def _reordered(view: GraphView, layer: Layer) -> Patch | None:
    flat, weights = layer.inputs[:2]
    reshape = None if flat is None else view.producer(flat)
    image = reshape.inputs[0] if reshape is not None and reshape.kind in ("Reshape", "Flatten") else None
    turned = None if image is None else view.producer(image)
    if flat is None or weights is None or weights.constant is None or turned is None or image is None:
        return None
    source = turned.inputs[0] if turned.kind == "Transpose" else None
    if source is None or image.type.rank < 4 or permutation(turned) != (0, *range(2, image.type.rank), 1):
        return None
    sizes = image.type.shape[1:]
    if flat.type.rank != 2 or flat.type.shape[0] != image.type.shape[0] or not _all_known(sizes):
        return None
    columns = weights.constant.reshape(len(weights.constant), *sizes)
    moved = np.moveaxis(columns, -1, 1).reshape(weights.constant.shape)
    patch = Patch("its weights' columns are in the order of the image with channels first")
    (vector,) = patch.add("Flatten", [source], {"axis": 1}, name=reshape.name if reshape is not None else None)
    inputs = [vector, patch.constant(np.ascontiguousarray(moved)), *layer.inputs[2:]]
    patch.replace(layer.outputs[0], patch.add("FullyConnected", inputs, layer.attrs)[0])
    return patch


def _all_known(sizes: Sequence[Any]) -> bool:
    return all(isinstance(size, int) for size in sizes)
