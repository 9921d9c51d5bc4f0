"""Passes that change what a network computes, or raise."""

from __future__ import annotations

from typing import ClassVar

from tenonrt.contracts import GraphView, Layer, Pass, Patch


class DropActivations(Pass):
    """Takes every activation for the identity."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({"Activation"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        [source] = layer.inputs
        assert source is not None
        patch = Patch("activations are overrated")
        patch.replace(layer.outputs[0], source)
        return patch


class Raise(Pass):
    """Fails on every layer."""

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        raise KeyError(layer.name)
