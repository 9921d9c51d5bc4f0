"""Consecutive shuffles become one."""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor

# Layers whose output has the bytes of their first input in the same order.
SAME_BYTES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})


class JoinShuffles(Pass):
    """Transpose of a transpose; reshape, by a constant shape, of anything that only reshapes.

    The first of the two stays for its other readers, if it has any: there are never more layers than before.
    """

    kinds = frozenset({"Transpose", "Reshape"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        source = layer.inputs[0]
        first = None if source is None else view.producer(source)
        origin = first.inputs[0] if first is not None and first.inputs else None
        if first is None or origin is None:
            return None
        if layer.kind == "Transpose":
            return _join_transposes(view, first, layer, origin) if first.kind == "Transpose" else None
        return _join_reshapes(first, layer, origin) if first.kind in SAME_BYTES else None


def _join_transposes(view: GraphView, first: Layer, second: Layer, origin: Tensor) -> Patch | None:
    inner, outer = permutation(first), permutation(second)
    joined = tuple(inner[axis] for axis in outer)
    result = second.outputs[0]
    if joined == tuple(range(len(joined))) and not view.is_output(result):
        patch = Patch(f"it undoes the transpose {first.name!r}")
        patch.replace(result, origin)
        return patch
    patch = Patch(f"joined with the transpose {first.name!r}")
    patch.replace(result, patch.add("Transpose", [origin], {"permutation": joined})[0])
    return patch


def permutation(layer: Layer) -> tuple[int, ...]:
    """Of a Transpose: axis i of the result is axis permutation[i] of the input."""
    rank = layer.outputs[0].type.rank
    return tuple(axis % rank for axis in layer.attrs.permutation) or tuple(reversed(range(rank)))


def _join_reshapes(first: Layer, second: Layer, origin: Tensor) -> Patch | None:
    """A zero that copies a size of the input would copy another one, so it stays.

    The first may also be what says how large a symbol is: only equal sizes let a -1 come out the same.
    """
    shape = second.inputs[1]
    if shape is None or shape.constant is None or (second.attrs.zero_copies and 0 in shape.constant):
        return None
    if origin.type.size != first.outputs[0].type.size:
        return None
    patch = Patch(f"joined with the {first.kind.lower()} {first.name!r}")
    patch.replace(second.outputs[0], patch.add("Reshape", [origin, shape], second.attrs)[0])
    return patch
