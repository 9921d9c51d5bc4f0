"""Tensors that are cut and joined again."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor

from tenonrt_passes_standard.matching import maker


class RejoinSplits(Pass):
    """[a, b, c] where a and b are all that x was split into along the same axis is [x, c].

    The blocks of YOLOv8 join both halves with what was made of one: x is then written where it is joined.
    """

    kinds = frozenset({"Concatenation"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        for position, tensor in enumerate(layer.inputs):
            split = maker(view, tensor, "Split")
            if split is None or not _whole(split, layer, layer.inputs[position:]):
                continue
            whole, after = split.inputs[0], layer.inputs[position + len(split.outputs) :]
            patch = Patch(f"it joins what {split.name!r} cuts")
            inputs = [*layer.inputs[:position], whole, *after]
            patch.replace(layer.outputs[0], patch.add("Concatenation", inputs, layer.attrs)[0])
            return patch
        return None


def _whole(split: Layer, layer: Layer, inputs: Sequence[Tensor | None]) -> bool:
    """Whether inputs of a concatenation begin with all parts of a split, in order and along the same axis."""
    rank, parts = layer.outputs[0].type.rank, split.outputs
    if len(inputs) < len(parts) or split.attrs.axis % rank != layer.attrs.axis % rank:
        return False
    host = any(tensor.info.place == "host" for tensor in parts)
    return not host and all(a is b for a, b in zip(parts, inputs, strict=False))
