"""Layers that are linear in constant weights: what can take a factor and a shift of each output channel along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array, GraphView, Layer, Patch, Tensor, is_float


@dataclass(frozen=True)
class Linear:
    """A Convolution, Deconvolution or FullyConnected whose result has one reader and is no output of the network."""

    layer: Layer
    weights: Array
    bias: Array | None

    @property
    def rank(self) -> int:
        return self.layer.outputs[0].type.rank

    @property
    def axis(self) -> int:
        """The channel axis of its output."""
        return self.rank - 1 if self.layer.kind == "FullyConnected" else 1

    @property
    def channels(self) -> int:
        if self.layer.kind == "Deconvolution":
            return int(self.weights.shape[1] * self.layer.attrs.groups)
        return int(self.weights.shape[0])

    def fold(self, last: Layer, factor: Array, shift: Array) -> Patch | None:
        """Replace ``last``, which computes ``y * factor + shift`` per channel; None when the weights would overflow.

        factor and shift are float64; so is the arithmetic, and the result is rounded once to the weights' type.
        """
        bias = np.zeros(self.channels) if self.bias is None else self.bias.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            weights = self._scaled(factor).astype(self.weights.dtype)
            moved = (bias * factor + shift).astype(self.weights.dtype)
        if not (np.isfinite(weights).all() and np.isfinite(moved).all()):
            return None
        patch = Patch(f"folded into the weights of {self.layer.name!r}")
        inputs = [self.layer.inputs[0], patch.constant(weights), patch.constant(moved)]
        patch.replace(last.outputs[0], patch.add(self.layer.kind, inputs, self.layer.attrs)[0])
        return patch

    def _scaled(self, factor: Array) -> Array:
        weights = self.weights.astype(np.float64)
        if self.layer.kind != "Deconvolution":
            return weights * factor.reshape(-1, *[1] * (weights.ndim - 1))
        # [C, K/groups, *R]: channel k of the output is weight k % (K/groups) of the inputs of group k // (K/groups).
        groups, share = self.layer.attrs.groups, weights.shape[1]
        split = weights.reshape(groups, len(weights) // groups, share, -1)
        return (split * factor.reshape(groups, 1, share, 1)).reshape(weights.shape)


KINDS = frozenset({"Convolution", "Deconvolution", "FullyConnected"})


def linear(view: GraphView, tensor: Tensor | None) -> Linear | None:
    """The linear layer that computed a tensor for one reader alone, if its weights and bias are constant."""
    layer = None if tensor is None else view.producer(tensor)
    if tensor is None or layer is None or layer.kind not in KINDS:
        return None
    if view.is_output(tensor) or len(view.consumers(tensor)) != 1 or not is_float(tensor.type.dtype):
        return None
    weights, bias = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
    if weights is None or weights.constant is None or (bias is not None and bias.constant is None):
        return None
    return Linear(layer, weights.constant, None if bias is None else bias.constant)
