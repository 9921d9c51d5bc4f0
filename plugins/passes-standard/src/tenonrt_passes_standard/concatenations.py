"""Concatenations that begin with what another one joins: the longer one takes the shorter one's result.

A DenseNet joins all earlier results before each layer. In a chain every one is written once, into the last of them.
"""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch


class ChainConcatenations(Pass):
    """[a, b, c] where [a, b] is joined along the same axis elsewhere becomes [[a, b], c]."""

    kinds = frozenset({"Concatenation"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        first = layer.inputs[0]
        if first is None or any(t is None or t.info.place == "host" for t in layer.inputs):
            return None
        best: Layer | None = None
        for other in view.consumers(first):
            if _begins(other, layer) and not view.reaches(other, [layer]):
                best = other if best is None or len(other.inputs) > len(best.inputs) else best
        if best is None:
            return None
        patch = Patch(f"it begins as {best.name!r} does")
        inputs = [best.outputs[0], *layer.inputs[len(best.inputs) :]]
        patch.replace(layer.outputs[0], patch.add("Concatenation", inputs, layer.attrs)[0])
        return patch


def _begins(shorter: Layer, longer: Layer) -> bool:
    """Whether a concatenation joins the first inputs of a longer one, two at least."""
    count = len(shorter.inputs)
    if shorter.kind != "Concatenation" or not 2 <= count < len(longer.inputs):
        return False
    rank = longer.outputs[0].type.rank
    same = shorter.attrs.axis % rank == longer.attrs.axis % rank
    return same and all(a is b for a, b in zip(shorter.inputs, longer.inputs, strict=False))
