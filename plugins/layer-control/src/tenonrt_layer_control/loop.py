"""Loop: a graph repeated a number of times, or while a condition holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, ClassVar, TypeVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Dim,
    Dimension,
    GraphTypes,
    LayerType,
    Run,
    TensorInfo,
    TensorType,
    draw,
    maximum,
    minimum,
    unknown,
)

from tenonrt_layer_control.carried import (
    bindings,
    check_carried,
    check_condition,
    check_returned,
    final_state,
    known_truth,
    outside,
    stack,
    truth,
    visible_symbols,
)

T = TypeVar("T")


def _iterations(trips: TensorInfo | None, condition: TensorInfo | None, again: TensorInfo) -> Dimension:
    """How often the body runs: the trip count where only it ends the loop, else at most that."""
    first, following = known_truth(condition), known_truth(again)
    if first is False:
        return 0
    limit = _limit(trips)
    if following is False:
        limit = 1 if limit is None else minimum(limit, 1)
    certain = first and following is not None and (trips is None or trips.value is not None)
    return limit if certain and limit is not None else unknown(limit)


def _limit(trips: TensorInfo | None) -> Dimension | None:
    return None if trips is None or trips.value is None else maximum(_dimension(trips.value), 0)


def _dimension(value: Array) -> Dimension:
    found = value.reshape(-1)[0]
    return found if isinstance(found, Dim) else int(found)


class LoopLayer(LayerType):
    """ONNX Loop. Inputs: trip count, condition, initial states. The body takes iteration, condition and states.

    The body gives condition, states and values to collect. Outputs: the final states, then every collected value along
    a new first axis of as many elements as there were iterations. Captured tensors are no inputs of the body.
    """

    inputs: ClassVar[tuple[str, ...]] = ("trip_count?", "condition?", "states*")
    # Host values: they decide what runs next.
    shape_inputs: ClassVar[tuple[int, ...]] = (0, 1)

    def infer(self, attrs: Any, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        raise ValueError("Loop owns one graph, its body; found none")

    def infer_control(
        self, attrs: Any, inputs: Sequence[TensorInfo | None], graphs: Sequence[GraphTypes]
    ) -> list[TensorInfo]:
        body = _body(graphs)
        trips, condition, *states = _padded(inputs)
        if trips is not None and not (trips.dtype == "int64" and trips.shape in {(), (1,)}):
            raise ValueError(f"the trip count is {trips.type}, expected one int64")
        if condition is not None:
            check_condition(condition)
        taken = body.inputs[2:]
        given = _states(states[: len(taken)], taken, body)
        kept = [final_state(*three) for three in zip(given, taken, body.outputs[1:], strict=False)]
        bound, visible = bindings(given, taken, kept), visible_symbols(inputs)
        length = _iterations(trips, condition, body.outputs[0])
        collected = body.outputs[1 + len(taken) :]
        return [*kept, *(o.like((length, *outside(o.type, bound, visible))) for o in collected)]

    def reference(self, attrs: Any, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        """A loop that never runs learns what it would collect from one run of its body that has no other effect."""
        trips, condition, *given = _padded(arrays)
        states = [s for s in given if s is not None]
        limit = None if trips is None else int(trips.reshape(-1)[0])
        holds = condition is None or truth(condition)
        collected: list[list[Array]] = []
        for iteration in count():
            if not holds or (limit is not None and iteration >= limit):
                break
            holds, states, values = _step(run, iteration, states)
            collected.append(values)
        likes = collected[0] if collected else _step(run, 0, states)[2]
        return [*states, *(stack([c[i] for c in collected], like) for i, like in enumerate(likes))]

    def sample(self, attrs: Any, types: Sequence[TensorType | None], rng: np.random.Generator) -> list[Array | None]:
        trips, condition, *states = types
        return [
            None if trips is None else np.full(trips.concrete({}), 3, np.int64),
            None if condition is None else np.ones(condition.concrete({}), np.bool_),
            *(None if t is None else draw(t, rng) for t in states),
        ]


def _padded(values: Sequence[T | None]) -> list[T | None]:
    """The inputs with the trip count and the condition present, if only as None."""
    absent: list[T | None] = [None] * (2 - len(values))
    return [*values, *absent]


def _body(graphs: Sequence[GraphTypes]) -> GraphTypes:
    if len(graphs) != 1:
        raise ValueError(f"Loop owns one graph, its body; found {len(graphs)}")
    body = graphs[0]
    if len(body.inputs) < 2 or len(body.outputs) < len(body.inputs) - 1:
        raise ValueError(
            f"the body has {len(body.inputs)} inputs and {len(body.outputs)} outputs; "
            "expected iteration, condition and states in, condition, states and collected values out"
        )
    check_condition(body.outputs[0])
    return body


def _states(states: Sequence[TensorInfo | None], taken: Sequence[TensorInfo], body: GraphTypes) -> list[TensorInfo]:
    given = [s for s in states if s is not None]
    if len(given) != len(taken):
        raise ValueError(f"found {len(given)} states, expected {len(taken)}, as many as the body takes")
    for i, (state, inner) in enumerate(zip(given, taken, strict=True)):
        check_carried(state, inner, f"state {i}")
        check_returned(body.outputs[1 + i], inner, f"state {i}")
    return given


def _step(run: Run, iteration: int, states: Sequence[Array]) -> tuple[bool, list[Array], list[Array]]:
    """Run the body once: whether to go on, the next states, the values to collect."""
    outputs = run.graph(0, [np.array(iteration, np.int64), np.array(True), *states])
    split = 1 + len(states)
    return truth(outputs[0]), list(outputs[1:split]), list(outputs[split:])
