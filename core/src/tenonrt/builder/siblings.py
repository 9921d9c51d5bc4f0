"""Siblings: layers of one kind and equal parameters that read one tensor, joined into one region.

The 1x1 convolutions of an Inception block and the projections of an attention block are such layers. A kernel that
computes several of them at once says so (`Kernel.aggregates`); which layers are siblings is decided here. What reads
one quantized tensor has a Dequantize layer of its own for it, and is a sibling too, for kernels that take that along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from tenonrt.graph.graph import Graph, Layer, Tensor

# Of up to so many siblings every subset is offered, of more those that follow each other.
_ALL_SUBSETS = 4
_MOST = 12

Regions = Callable[[Layer], Sequence[Sequence[Layer]]]


def sibling_groups(graph: Graph) -> dict[Layer, list[tuple[Layer, ...]]]:
    """The sets of siblings, each at the first of its layers."""
    groups: dict[tuple[object, ...], list[Layer]] = {}
    for layer in graph.layers:
        key = _kinship(layer)
        if key is not None:
            groups.setdefault(key, []).append(layer)
    found: dict[Layer, list[tuple[Layer, ...]]] = {}
    for members in groups.values():
        for chosen in _subsets(members[:_MOST]):
            found.setdefault(chosen[0], []).append(chosen)
    return found


def _kinship(layer: Layer) -> tuple[object, ...] | None:
    """Equal for siblings: what they read, kind, attributes, and their weights' sizes but for the first."""
    if layer.graphs or layer.layer_type.pattern != "contraction" or len(layer.outputs) != 1:
        return None
    source, *others = layer.inputs
    if source is None or source.constant is not None or any(t is not None and t.constant is None for t in others):
        return None
    weights = [(t.type.dtype, t.type.shape[1:]) for t in others if t is not None and t.type.rank > 1]
    return (_read(source), layer.kind, layer.attrs, tuple(weights)) if weights else None


def _read(source: Tensor) -> object:
    """The tensor, or how it is made of a quantized one."""
    maker = source.producer
    return source if maker is None or maker.kind != "Dequantize" else (tuple(maker.inputs), maker.attrs)


def _subsets(members: Sequence[Layer]) -> Iterator[tuple[Layer, ...]]:
    """The largest first."""
    for size in range(len(members), 1, -1):
        if len(members) <= _ALL_SUBSETS:
            yield from combinations(members, size)
        else:
            yield from (tuple(members[start : start + size]) for start in range(len(members) - size + 1))


def joined(siblings: Sequence[Layer], regions: Regions, fits: Callable[[Sequence[Layer]], bool]) -> list[Layer] | None:
    """The union of a region of each sibling: the longest ones, or with one of them shorter where those do not fit.

    A tail may read what another sibling's is computed from, as a residual sum does: then it stays outside. What each
    sibling reads is one tensor for all, or dequantized inside.
    """
    longest = [max(regions(layer), key=len, default=(layer,)) for layer in siblings]
    shortest = [min(regions(layer), key=len, default=(layer,)) for layer in siblings]
    attempts = [longest]
    attempts += [[*longest[:i], short, *longest[i + 1 :]] for i, short in enumerate(shortest)]
    attempts.append(shortest)
    for parts in attempts:
        union = [layer for part in parts for layer in part]
        read = {layer.inputs[0] for layer in siblings}
        inside = len(read) == 1 or all(t is not None and t.producer in union for t in read)
        if len(set(union)) == len(union) and inside and fits(union):
            return union
    return None
