"""Scan: a graph applied to each slice of its inputs in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Attributes,
    Dimension,
    GraphTypes,
    LayerType,
    Run,
    TensorInfo,
)

from tenonrt_layer_control.carried import (
    bindings,
    check_carried,
    check_returned,
    final_state,
    outside,
    stack,
    visible_symbols,
)


class ScanAttributes(Attributes, frozen=True, kw_only=True):
    """num_scan_inputs: how many of the inputs are sliced; they follow the states.

    Axes and directions (0 forward, 1 reverse) are per sliced input or collected output; empty means zeros.
    """

    num_scan_inputs: int
    scan_input_axes: tuple[int, ...] = ()
    scan_input_directions: tuple[int, ...] = ()
    scan_output_axes: tuple[int, ...] = ()
    scan_output_directions: tuple[int, ...] = ()


def _per_item(values: tuple[int, ...], items: int, name: str) -> tuple[int, ...]:
    if values and len(values) != items:
        raise ValueError(f"{name} has {len(values)} values, expected {items}")
    return values or (0,) * items


def _axis(axis: int, rank: int, name: str) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"{name} holds axis {axis}, which does not exist in rank {rank}")
    return axis % rank


class ScanLayer(LayerType):
    """ONNX Scan (version 9 on). Inputs: initial states, then the tensors to slice. The body takes states and slices.

    The body gives states and values to collect. Outputs: the final states, then each collected value along a new axis.
    """

    Attrs: ClassVar[type[Attributes]] = ScanAttributes
    inputs: ClassVar[tuple[str, ...]] = ("inputs*",)

    def infer(self, attrs: ScanAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        raise ValueError("Scan owns one graph, its body; found none")

    def infer_control(
        self, attrs: ScanAttributes, inputs: Sequence[TensorInfo | None], graphs: Sequence[GraphTypes]
    ) -> list[TensorInfo]:
        body = _body(attrs, graphs)
        given = [i for i in inputs[: len(body.inputs)] if i is not None]
        if len(given) != len(body.inputs):
            raise ValueError(f"found {len(given)} inputs, expected {len(body.inputs)}, as many as the body takes")
        split = len(given) - attrs.num_scan_inputs
        slices, length = _slices(attrs, given[split:])
        taken = body.inputs
        for i, (outer, inner) in enumerate(zip([*given[:split], *slices], taken, strict=True)):
            check_carried(outer, inner, f"state {i}" if i < split else f"a slice of sliced input {i - split}")
        for i in range(split):
            check_returned(body.outputs[i], taken[i], f"state {i}")
        kept = [final_state(*three) for three in zip(given[:split], taken, body.outputs, strict=False)]
        bound = bindings([*given[:split], *slices], taken, [*kept, *slices])
        visible = visible_symbols(inputs)
        collected = body.outputs[split:]
        axes = _per_item(attrs.scan_output_axes, len(collected), "scan_output_axes")
        _per_item(attrs.scan_output_directions, len(collected), "scan_output_directions")
        shapes = [outside(o.type, bound, visible) for o in collected]
        return [
            *kept,
            *(o.like(_insert(s, a, length)) for o, s, a in zip(collected, shapes, axes, strict=True)),
        ]

    def reference(self, attrs: ScanAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        """A scan of nothing learns what it would collect from one run of its body on zeros."""
        given = [a for a in arrays if a is not None]
        split = len(given) - attrs.num_scan_inputs
        states, sequences = given[:split], _sequences(attrs, given[split:])
        collected: list[list[Array]] = []
        for items in zip(*sequences, strict=True):
            outputs = run.graph(0, [*states, *(np.asarray(i) for i in items)])
            states = list(outputs[:split])
            collected.append(list(outputs[split:]))
        empty = [np.zeros(s.shape[1:], s.dtype) for s in sequences]
        likes = collected[0] if collected else run.graph(0, [*states, *empty])[split:]
        return [*states, *_stacked(attrs, collected, likes)]


def _body(attrs: ScanAttributes, graphs: Sequence[GraphTypes]) -> GraphTypes:
    if len(graphs) != 1:
        raise ValueError(f"Scan owns one graph, its body; found {len(graphs)}")
    body = graphs[0]
    if not 1 <= attrs.num_scan_inputs <= len(body.inputs):
        raise ValueError(f"num_scan_inputs is {attrs.num_scan_inputs}, expected 1 to {len(body.inputs)}")
    if len(body.outputs) < len(body.inputs) - attrs.num_scan_inputs:
        raise ValueError(
            f"the body has {len(body.outputs)} outputs, expected at least its "
            f"{len(body.inputs) - attrs.num_scan_inputs} states"
        )
    return body


def _slices(attrs: ScanAttributes, sliced: Sequence[TensorInfo]) -> tuple[list[TensorInfo], Dimension]:
    """The types of one slice of each input, and how many there are."""
    axes = _per_item(attrs.scan_input_axes, len(sliced), "scan_input_axes")
    _per_item(attrs.scan_input_directions, len(sliced), "scan_input_directions")
    slices, lengths = [], []
    for info, given in zip(sliced, axes, strict=True):
        axis = _axis(given, info.rank, "scan_input_axes")
        lengths.append(info.shape[axis])
        slices.append(info.like((*info.shape[:axis], *info.shape[axis + 1 :])))
    static = sorted({n for n in lengths if isinstance(n, int)})
    if len(static) > 1:
        raise ValueError(f"the sliced inputs have {' and '.join(map(str, static))} slices; expected as many each")
    return slices, static[0] if static else lengths[0]


def _insert(shape: Sequence[Dimension], axis: int, length: Dimension) -> tuple[Dimension, ...]:
    at = _axis(axis, len(shape) + 1, "scan_output_axes")
    return (*shape[:at], length, *shape[at:])


def _sequences(attrs: ScanAttributes, sliced: Sequence[Array]) -> list[Array]:
    """The sliced inputs with the scanned axis first, in the order they are walked."""
    axes = _per_item(attrs.scan_input_axes, len(sliced), "scan_input_axes")
    directions = _per_item(attrs.scan_input_directions, len(sliced), "scan_input_directions")
    moved = [np.moveaxis(a, axis, 0) for a, axis in zip(sliced, axes, strict=True)]
    return [a[::-1] if reverse else a for a, reverse in zip(moved, directions, strict=True)]


def _stacked(attrs: ScanAttributes, collected: Sequence[Sequence[Array]], likes: Sequence[Array]) -> list[Array]:
    axes = _per_item(attrs.scan_output_axes, len(likes), "scan_output_axes")
    directions = _per_item(attrs.scan_output_directions, len(likes), "scan_output_directions")
    parts = [[c[i] for c in collected][:: -1 if d else 1] for i, d in enumerate(directions)]
    return [stack(p, like, axis) for p, like, axis in zip(parts, likes, axes, strict=True)]
