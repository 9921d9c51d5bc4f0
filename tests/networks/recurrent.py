"""Two layers of LSTM: gates reordered by Slice and Concat when exported, state from Expand or constants."""

from __future__ import annotations

import numpy as np
from networks.writer import Writer

STEPS, FEATURES, HIDDEN = 6, 8, 12
INPUT = (STEPS, FEATURES)


def gates(w: Writer, features: int) -> str:
    """Weights for input, output, forget and cell gates, from the exporter's order: input, forget, cell, output."""
    weight = w.weight(4 * HIDDEN, features, scale=HIDDEN**-0.5)
    if w.traced:
        return w.node("Unsqueeze", [weight, w.ints(0)])
    zero = w.ints(0)
    parts = [w.node("Slice", [weight, w.ints(i * HIDDEN), w.ints((i + 1) * HIDDEN), zero]) for i in (0, 3, 1, 2)]
    return w.node("Unsqueeze", [w.node("Concat", parts, axis=0), zero])


def state(w: Writer, x: str) -> str:
    """Zeros of the batch's size; x is [steps, batch, features]."""
    if isinstance(w.batch, int):
        return w.initializer(np.zeros((1, w.batch, HIDDEN), np.float32))
    size = w.node("Shape", [x], start=1, end=2)
    shape = w.node("Concat", [w.ints(1), size, w.ints(HIDDEN)], axis=0)
    return w.node("Expand", [w.constant([[[0.0]]]), shape])


def layer(w: Writer, x: str, features: int) -> str:
    bias = w.weight(1, 8 * HIDDEN, scale=0.1)
    inputs = [x, gates(w, features), gates(w, HIDDEN), bias, "", state(w, x), state(w, x)]
    (y,) = w.split("LSTM", inputs, 1, hidden_size=HIDDEN, direction="forward")
    if w.traced:
        return w.node("Squeeze", [y, w.ints(1)])
    y = w.node("Transpose", [y], perm=[0, 2, 1, 3])
    return w.node("Reshape", [y, w.ints(STEPS, -1, HIDDEN)], allowzero=0)


def build(w: Writer) -> None:
    x = w.node("Transpose", [w.input("input", INPUT)], perm=[1, 0, 2])
    x = layer(w, layer(w, x, FEATURES), HIDDEN)
    w.output(w.projection(w.node("Transpose", [x], perm=[1, 0, 2]), HIDDEN, 5), rank=3)
