"""What kernels of several libraries look for in a graph: products of rows, a sum and an activation after a layer, and
attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tenonrt.problem import Problem

if TYPE_CHECKING:
    from tenonrt.views import GraphView, Layer, Tensor

# Layers that compute nothing: they put elements in other places, or only say so.
MOVES = frozenset({"Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
_LONGEST = 12  # layers between two products, or around them


def only_reader(view: GraphView, tensor: Tensor) -> Layer | None:
    """The one layer that reads a tensor, however often, where there is one and the tensor is no output."""
    readers = {id(layer): layer for layer in view.consumers(tensor)}
    return next(iter(readers.values())) if len(readers) == 1 and not view.is_output(tensor) else None


# products of rows ----------------------------------------------------------------------------------------------------


def row_product_refusal(problem: Problem) -> str:
    """Why a problem does not begin with a product of rows, or of pixels, by constant weights, as libraries compute them
    whose rows start where 16 bytes do; empty when it does. Sizes are known."""
    layer = problem.layer
    if layer.kind not in ("FullyConnected", "Convolution") or layer.inputs[1] not in problem.constants:
        return "no product with constant weights"
    if len(layer.inputs) > 2 and layer.inputs[2] >= 0 and layer.inputs[2] not in problem.constants:
        return "a bias that is computed"
    if layer.inputs[0] not in problem.activations or problem.types[layer.inputs[0]].dtype != "float32":
        return "an input that is constant or not float32"
    if problem.outputs != (problem.layers[-1].outputs[0],):
        return "an interior result is wanted outside of the region"
    attrs, weights = layer.attrs, problem.types[layer.inputs[1]].concrete({})
    if layer.kind == "FullyConnected":
        return "" if weights[0] % 8 == 0 and weights[1] % 8 == 0 else f"sizes of {weights} that are no multiples of 8"
    plain = not any((*attrs.pre_padding, *attrs.post_padding)) and set(attrs.stride) <= {1} and attrs.groups == 1
    if len(weights) != 4 or weights[2:] != (1, 1) or not plain:
        return "a window of more than one element, a stride, padding or groups"
    return ""


# a sum and an activation --------------------------------------------------------------------------------------------


class SumTail:
    """After a layer of one result: a sum with another tensor of its type, an activation, or one after the other."""

    def __init__(self, computes: Callable[[Any], bool]) -> None:
        """``computes``: whether a kernel computes the activation of these attributes."""
        self._computes = computes

    def regions(self, view: GraphView, anchor: Layer) -> Iterator[Sequence[Layer]]:
        """The widest region last; before it what is left where the layer of the other operand takes the sum."""
        region = [anchor]
        cuts: list[tuple[Layer, ...]] = []
        while (follower := self._follower(view, region)) is not None:
            if follower.kind == "Elementwise":
                cuts.append(tuple(region))
            region.append(follower)
        yield from dict.fromkeys((*cuts, tuple(region)))

    def _follower(self, view: GraphView, region: Sequence[Layer]) -> Layer | None:
        last, result = region[-1], region[-1].outputs[0]
        layer = only_reader(view, result)
        if layer is None or last.kind == "Activation":
            return None
        if layer.kind == "Activation":
            return layer if self._computes(layer.attrs) else None
        if layer.kind != "Elementwise" or layer.attrs.operation != "sum" or last.kind == "Elementwise":
            return None
        others = [t for t in layer.inputs if t is not None and t is not result]
        return layer if len(others) == 1 and _can_add(view, others[0], result, region) else None

    def refusal(self, problem: Problem) -> str:
        """Why what follows the first layer of a problem is no such tail; empty when it is."""
        kinds = problem.kinds[1:]
        if kinds not in ((), ("Activation",), ("Elementwise",), ("Elementwise", "Activation")):
            return f"{' + '.join(kinds)} follows it"
        current = problem.layer
        for layer in problem.layers[1:]:
            if current.outputs[0] not in layer.inputs:
                return "the region is not a chain"
            if layer.kind == "Activation" and not self._computes(layer.attrs):
                return f"the activation {layer.attrs.function}"
            if layer.kind == "Elementwise" and (layer.attrs.operation != "sum" or added_operand(problem) is None):
                return f"a {layer.attrs.operation} of something else than one computed tensor of its shape"
            current = layer
        return ""


def _can_add(view: GraphView, other: Tensor, result: Tensor, region: Sequence[Layer]) -> bool:
    producer = view.producer(other)
    depends = producer is not None and view.reaches(producer, region)
    return other.type == result.type and other.constant is None and not depends


def added_operand(problem: Problem) -> int | None:
    """The computed tensor that is added to the first layer's result, of which it has the type; None without one."""
    for layer in problem.layers[1:]:
        if layer.kind == "Elementwise":
            others = [i for i in layer.inputs if i != problem.layer.outputs[0]]
            same = len(others) == 1 and problem.types[others[0]] == problem.types[problem.layer.outputs[0]]
            return others[0] if same and others[0] in problem.activations else None
    return None


# attention ----------------------------------------------------------------------------------------------------------


class AttentionLayers(NamedTuple):
    """core: from the product of queries and keys to that with the values; before, after: what moves or scales data."""

    before: Sequence[Layer]
    core: Sequence[Layer]
    after: Sequence[Layer]


def attention_layers(view: GraphView, first: Layer, between: frozenset[str]) -> AttentionLayers | None:
    """The attention that begins with a product, None where none does.

    between: kinds of layers that scores may go through before their softmax. Nothing inside is read by others, so that
    the core, and the core with either of its sides, are convex.
    """
    core = _core(view, first, between)
    if core is None:
        return None
    operands = (*first.inputs, core[-1].inputs[1])
    before = [layer for tensor in operands if tensor is not None for layer in _sources(view, tensor)]
    return AttentionLayers(tuple(dict.fromkeys(before)), tuple(core), _moves_after(view, core[-1].outputs[0]))


def _core(view: GraphView, first: Layer, between: frozenset[str]) -> list[Layer] | None:
    region, tensor = [first], first.outputs[0]
    while len(region) < _LONGEST:
        reader = only_reader(view, tensor)
        if reader is None or len(reader.outputs) != 1 or reader.outputs[0].type.shape != tensor.type.shape:
            return None
        region.append(reader)
        tensor = reader.outputs[0]
        if reader.kind == "Softmax":
            return _to_product(view, region, tensor)
        if reader.kind not in between:
            return None
    return None


def _to_product(view: GraphView, region: list[Layer], probabilities: Tensor) -> list[Layer] | None:
    guard = _guard(view, probabilities)
    if guard:
        region, probabilities = [*region, *guard], guard[-1].outputs[0]
    reader = only_reader(view, probabilities)
    if reader is None or reader.kind != "MatrixMultiply" or reader.inputs[0] is not probabilities:
        return None
    return [*region, reader] if reader.inputs[1] is not probabilities else None


def _guard(view: GraphView, probabilities: Tensor) -> list[Layer]:
    """Layers that make zeros of NaN, where there are some: a question and a choice, both of the probabilities."""
    readers = sorted(view.consumers(probabilities), key=lambda layer: layer.kind)
    if [layer.kind for layer in readers] != ["Select", "Unary"] or view.is_output(probabilities):
        return []
    chosen, asked = readers
    return [asked, chosen] if only_reader(view, asked.outputs[0]) is chosen else []


def _sources(view: GraphView, tensor: Tensor) -> list[Layer]:
    """Layers that only move or scale what becomes an operand, in order."""
    found: list[Layer] = []
    while len(found) < _LONGEST:
        layer = view.producer(tensor)
        if layer is None or only_reader(view, tensor) is None or len(layer.outputs) != 1:
            break
        data = [t for t in layer.inputs if t is not None and t.constant is None]
        scales = layer.kind == "Elementwise" and layer.attrs.operation in ("prod", "div")
        if len(data) != 1 or not (layer.kind in MOVES or scales) or data[0].type.size != tensor.type.size:
            break
        found.insert(0, layer)
        tensor = data[0]
    return found


def _moves_after(view: GraphView, tensor: Tensor) -> tuple[Layer, ...]:
    found: list[Layer] = []
    while len(found) < _LONGEST:
        layer = only_reader(view, tensor)
        if layer is None or layer.kind not in MOVES or layer.inputs[0] is not tensor:
            break
        found.append(layer)
        tensor = layer.outputs[0]
    return tuple(found)
