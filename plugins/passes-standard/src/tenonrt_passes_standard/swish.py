"""SiLU as exporters write it: a tensor times its own sigmoid."""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch

from tenonrt_passes_standard.matching import sole


class FuseSwish(Pass):
    """x * sigmoid(x), whose sigmoid nothing else reads, is one activation: what makes x can then take it along."""

    kinds = frozenset({"Elementwise"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if layer.attrs.operation != "prod":
            return None
        for x, gate in (layer.inputs, layer.inputs[::-1]):
            before = sole(view, gate, "Activation")
            if before is None or before.attrs.function != "sigmoid" or before.inputs[0] is not x:
                continue
            patch = Patch(f"with {before.name!r} it is a swish")
            patch.replace(layer.outputs[0], patch.add("Activation", [x], {"function": "swish"})[0])
            return patch
        return None
