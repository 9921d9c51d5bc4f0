"""Weights of recurrent layers as the kernels read them. Units are padded to those of a cluster, GRUs to four gates.

A GRU's fourth gate is the recurrent part of its candidate, which is scaled before it is added: its projection is that
part's bias, and of its recurrent rows the third has the weights and the fourth none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tenonrt.contracts import Array

from tenonrt_kernel_nvrtc.recurrent.problem import GATES, Recurrence
from tenonrt_kernel_nvrtc.recurrent.tiles import GROUP, HALVES, Tile
from tenonrt_kernel_nvrtc.storage import Narrow


def packed_inputs(r: Recurrence, units: int, given: Mapping[int, Array]) -> tuple[Array, Array]:
    """A product's matrix [columns, features] and bias [columns] from ONNX's; columns: directions, units, gates."""
    gates = GATES[r.kind]
    matrix = np.zeros((r.directions, units, 4, r.features), np.float32)
    weights = given[r.operands["weights"]].reshape(r.directions, gates, r.hidden, r.features)
    matrix[:, : r.hidden, :gates] = weights.swapaxes(1, 2)
    added = np.zeros((r.directions, units, 4), np.float32)
    if r.operands["bias"] >= 0:
        bias = given[r.operands["bias"]].astype(np.float32).reshape(r.directions, 2, gates, r.hidden)
        joined = bias.sum(1)
        if r.kind == "GRU":
            joined = np.concatenate([joined[:, :2], bias[:, 0, 2:], bias[:, 1, 2:]], 1)
        added[:, : r.hidden] = joined.swapaxes(1, 2)
    return matrix.reshape(-1, r.features), added.reshape(-1)


def between(
    layers: Sequence[Recurrence], tile: Tile, given: Mapping[int, Array], narrow: Narrow
) -> tuple[Array, Array]:
    """Of directions, or of a stack's layers and what is between them: [parts, gates, units, k], and biases.

    Biases [layers but the first, units, gates] are what projections between layers add.
    """
    found, biases = list[Array](), list[Array]()
    for number, r in enumerate(layers):
        if number:
            matrix, added = packed_inputs(r, tile.all_units, given)
            found.append(_deep(matrix.reshape(1, tile.all_units, 4, r.features).swapaxes(1, 2), tile, narrow))
            biases.append(added)
        gates = GATES[r.kind]
        recurrent = np.zeros((r.directions, 4, tile.all_units, r.hidden), np.float32)
        weights = given[r.operands["recurrence"]].reshape(r.directions, gates, r.hidden, r.hidden)
        recurrent[:, :gates, : r.hidden] = weights
        found.append(_deep(recurrent, tile, narrow))
    return np.concatenate(found), np.concatenate(biases) if biases else np.zeros(0, np.float32)


def _deep(matrix: Array, tile: Tile, narrow: Narrow) -> Array:
    """With k as long as the steps read it, in 16 bits."""
    return narrow.rounded(np.pad(matrix, [(0, 0)] * 3 + [(0, tile.depth - matrix.shape[3])]))


def fragments(tile: Tile, weights: Array) -> Array:
    """[parts, blocks, pairs of warps, halves of k, steps of 16, two tiles of 16 rows, lanes, 8 halves].

    A tile's rows are two gates of 8 units; a lane has of both, at k and k + 8, two elements in a row.
    """
    steps = tile.depth // HALVES // 16
    parts = weights.reshape(-1, 2, 2, tile.blocks, tile.units // GROUP, GROUP, HALVES, steps, 2, 4, 2)
    part, rows, high, blocks, pairs, g, half, k, after, lane, element = range(11)
    order = (part, blocks, pairs, half, k, rows, g, lane, after, high, element)
    return np.ascontiguousarray(parts.transpose(order)).reshape(-1, 32, 8)
