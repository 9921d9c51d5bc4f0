"""Dead layers: nobody reads what they compute."""

from __future__ import annotations

from tenonrt.contracts import GraphView, Layer, Pass, Patch


class RemoveDeadLayers(Pass):
    """Impure layers stay: what they do besides their results may be wanted."""

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        if not view.layer_type(layer).pure or any(view.consumers(t) or view.is_output(t) for t in layer.outputs):
            return None
        patch = Patch("nothing reads its outputs")
        patch.remove(layer)
        return patch
