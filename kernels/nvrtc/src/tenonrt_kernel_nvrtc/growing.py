"""Regions that a kernel takes along: pointwise layers that follow an anchor, each the only reader of the one before."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphView, Layer, broadcasts_to, only_reader

from tenonrt_kernel_nvrtc.expressions import FUNCTIONS, KINDS
from tenonrt_kernel_nvrtc.storage import C_TYPES

_MOST = 32


def grow(view: GraphView, region: Sequence[Layer], most: int = _MOST, kinds: frozenset[str] = KINDS) -> list[Layer]:
    """The region with the layers of these kinds that can follow it."""
    grown = list(region)
    while len(grown) < most:
        follower = _follower(view, grown, kinds)
        if follower is None:
            break
        grown.append(follower)
    return grown


def product_regions(view: GraphView, product: Layer, most: int) -> Sequence[tuple[Layer, ...]]:
    """Up to a sum (whose other operand's product may take it instead), and whole, which is the last of them.

    Alone, but where an activation follows that costs nothing behind a product: to try all tiles without it was half of
    what a build tried.
    """
    whole = grow(view, [product], most)
    cuts = [tuple(whole[:i]) for i, follower in enumerate(whole) if follower.kind == "Elementwise"]
    return list(dict.fromkeys((*([] if activated(whole) else [(product,)]), *cuts, tuple(whole))))


def activated(region: Sequence[Layer]) -> bool:
    """Whether the layer behind the first is an activation that kernels here compute."""
    return len(region) > 1 and region[1].kind == "Activation" and region[1].attrs.function in FUNCTIONS


def absorbs(view: GraphView, layer: Layer, kinds: frozenset[str] = KINDS) -> bool:
    """Whether a pointwise layer before this one takes it along."""
    for tensor in layer.inputs:
        producer = view.producer(tensor) if tensor is not None else None
        if producer is not None and producer.kind in kinds and _follower(view, [producer], kinds) is layer:
            return True
    return False


def _follower(view: GraphView, region: Sequence[Layer], kinds: frozenset[str]) -> Layer | None:
    result = region[-1].outputs[0]
    layer = only_reader(view, result)
    if layer is None or layer.kind not in kinds or len(layer.outputs) != 1:
        return None
    if layer.outputs[0].type.shape != result.type.shape or layer.outputs[0].type.dtype not in C_TYPES:
        return None
    for tensor in layer.inputs:
        if tensor is None or tensor is result:
            continue
        producer = view.producer(tensor)
        if not broadcasts_to(tensor.type.shape, result.type.shape):
            return None
        if producer is not None and (producer in region or view.reaches(producer, region)):
            return None
    return layer
