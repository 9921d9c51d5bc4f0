"""If: one of two graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Dimension,
    GraphTypes,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    joined,
    maximum,
    required,
    unknown,
)

from tenonrt_layer_control.carried import check_condition, known_truth, truth


def _either(left: Dimension, right: Dimension) -> Dimension:
    return left if left == right else unknown(maximum(left, right))


def _join(index: int, then: TensorInfo, other: TensorInfo) -> TensorInfo:
    dtype = joined(then.dtype, other.dtype)
    if dtype is None or then.rank != other.rank:
        raise ValueError(
            f"output {index} is {then.type} in the then graph and {other.type} in the else graph; "
            "expected one element type and rank"
        )
    return then.like([_either(a, b) for a, b in zip(then.shape, other.shape, strict=True)], dtype)


class IfLayer(LayerType):
    """ONNX If: the outputs of graph 0 when the condition holds, else those of graph 1. The graphs take no inputs.

    Axes on which the graphs differ have unknown sizes, unless the condition is known while inferring.
    """

    inputs: ClassVar[tuple[str, ...]] = ("condition",)
    # A host value: it decides what runs next.
    shape_inputs: ClassVar[tuple[int, ...]] = (0,)

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        raise ValueError("If owns two graphs, then and else; found none")

    def infer_control(
        self, attrs: Any, inputs: Sequence[TensorInfo | None], graphs: Sequence[GraphTypes]
    ) -> list[TensorInfo]:
        if len(graphs) != 2:
            raise ValueError(f"If owns two graphs, then and else; found {len(graphs)}")
        if inputs[0] is None:
            raise ValueError("If needs its condition")
        check_condition(inputs[0])
        for name, graph in zip(("then", "else"), graphs, strict=True):
            if graph.inputs:
                raise ValueError(f"the {name} graph has {len(graph.inputs)} inputs, expected none")
        then, other = graphs[0].outputs, graphs[1].outputs
        if len(then) != len(other):
            raise ValueError(
                f"the then graph has {len(then)} outputs and the else graph {len(other)}, expected as many"
            )
        holds = known_truth(inputs[0])
        if holds is not None:
            return [o.with_value(None) for o in (then if holds else other)]
        return [_join(i, a, b) for i, (a, b) in enumerate(zip(then, other, strict=True))]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        assert arrays[0] is not None
        return run.graph(0 if truth(arrays[0]) else 1, [])

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        return [np.asarray(rng.integers(0, 2, required(types, 1)[0].concrete({})), np.bool_)]
