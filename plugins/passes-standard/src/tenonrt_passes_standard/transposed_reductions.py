"""A reduction of a transposed tensor reduces the tensor itself, and what is left is transposed, which is less."""

from __future__ import annotations

import msgspec
from tenonrt.contracts import GraphView, Layer, Pass, Patch

from tenonrt_passes_standard.matching import axes_of, sole


class ReduceBeforeTranspose(Pass):
    """Reduce of a Transpose that nobody else reads."""

    kinds = frozenset({"Reduce"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        transpose = sole(view, layer.inputs[0], "Transpose")
        source = None if transpose is None else transpose.inputs[0]
        if transpose is None or source is None:
            return None
        rank = source.type.rank
        order = tuple(a % rank for a in transpose.attrs.permutation) or tuple(reversed(range(rank)))
        reduced = tuple(sorted(order[axis] for axis in axes_of(layer)))
        if not reduced:
            return None
        patch = Patch(f"reduced before {transpose.name!r}, which then moves less")
        attrs = msgspec.structs.replace(layer.attrs, axes=reduced)
        value = patch.add("Reduce", [source], attrs)[0]
        if not layer.attrs.keep_dims:
            left = [axis for axis in range(rank) if axis not in reduced]
            order = tuple(left.index(axis) for axis in order if axis not in reduced)
        if order != tuple(range(len(order))):
            value = patch.add("Transpose", [value], {"permutation": order})[0]
        patch.replace(layer.outputs[0], value)
        return patch
