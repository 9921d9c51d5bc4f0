"""Two small products in a row as a problem: what they are, what is between them, and images whose means they read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from tenonrt.contracts import GraphView, Layer, Problem, ProblemLayer, only_reader

PRODUCTS = frozenset({"Convolution", "FullyConnected"})
_TAIL = 3  # activations behind each product


@dataclass(frozen=True)
class Pair:
    """Two products, the activations behind each, and their sizes; pixels: of the images whose means they read, or 0."""

    first: ProblemLayer
    between: tuple[ProblemLayer, ...]
    second: ProblemLayer
    behind: tuple[ProblemLayer, ...]
    rows: int
    given: int
    middle: int
    made: int
    pixels: int

    @property
    def products(self) -> tuple[ProblemLayer, ProblemLayer]:
        return self.first, self.second


def pair_regions(view: GraphView, layer: Layer) -> Iterator[Sequence[Layer]]:
    """From a product, or from a mean that one reads, to the activations behind the next product."""
    head = [layer]
    if layer.kind == "Reduce":
        reader = only_reader(view, layer.outputs[0])
        if reader is None or reader.kind != "Convolution" or reader.inputs[0] is not layer.outputs[0]:
            return
        head = [layer, reader]
    region = _with_activations(view, head)
    follower = only_reader(view, region[-1].outputs[0])
    if follower is None or follower.kind != head[-1].kind or follower.inputs[0] is not region[-1].outputs[0]:
        return
    yield _with_activations(view, [*region, follower])


def _with_activations(view: GraphView, region: list[Layer]) -> list[Layer]:
    for _ in range(_TAIL):
        follower = only_reader(view, region[-1].outputs[0])
        if follower is None or follower.kind != "Activation":
            break
        region = [*region, follower]
    return region


def pair_of(problem: Problem) -> Pair | str:
    """The two products of a problem, or why it has none."""
    pooled = is_mean(problem, problem.layer)
    layers = problem.layers[1:] if pooled else problem.layers
    positions = [i for i, layer in enumerate(layers) if layer.kind in PRODUCTS]
    if len(positions) != 2 or positions[0] or layers[0].kind != layers[positions[1]].kind:
        return "not two products in a row"
    first, second = (layers[i] for i in positions)
    if problem.outputs != (problem.layers[-1].outputs[0],) or problem.activations != (problem.layer.inputs[0],):
        return "an interior result is wanted, or another tensor is read"
    if any(a.outputs[0] != b.inputs[0] for a, b in zip(problem.layers, problem.layers[1:], strict=False)):
        return "no chain"
    if any(layer.kind != "Activation" for layer in layers if layer not in (first, second)):
        return "other layers than activations"
    why = next(filter(None, (_refuses(problem, layer, layer is first) for layer in (first, second))), "")
    if why:
        return why
    given, (made, middle) = (problem.types[layer.inputs[1]].concrete({})[:2] for layer in (first, second))
    shape = problem.types[problem.layer.inputs[0]].concrete({})
    rows = shape[0] if first.kind == "Convolution" else prod(shape[:-1])
    tails = layers[1 : positions[1]], layers[positions[1] + 1 :]
    pixels = prod(shape[2:]) if pooled else 0
    return Pair(first, tails[0], second, tails[1], rows, given[1], middle, made, pixels)


def is_mean(problem: Problem, layer: ProblemLayer) -> bool:
    """Whether a layer is the mean over both axes of images, which it keeps."""
    if layer.kind != "Reduce" or layer.attrs.operation != "mean" or not layer.attrs.keep_dims:
        return False
    rank = problem.types[layer.inputs[0]].rank
    axes = layer.attrs.axes if layer.attrs.axes is not None else range(rank)
    return rank == 4 and sorted(axis % rank for axis in axes) == [2, 3]


def _refuses(problem: Problem, layer: ProblemLayer, first: bool) -> str:
    if any(i not in problem.constants for i in layer.inputs[1:] if i >= 0):
        return "weights or a bias that are computed"
    source, result = problem.types[layer.inputs[0]], problem.types[layer.outputs[0]]
    if source.dtype != "float32" or not result.size or not problem.types[problem.layer.inputs[0]].size:
        return "another element type, or nothing to compute"
    if layer.kind == "FullyConnected":
        size = (source if first else result).concrete({})[-1]
        return f"rows of {size}, no multiple of 8" if size % 8 else ""
    window = problem.types[layer.inputs[1]].concrete({})[2:]
    pixels = (*source.concrete({})[2:], *result.concrete({})[2:])
    return "" if prod(window) == prod(pixels) == layer.attrs.groups == 1 else "more than one pixel, or groups"
