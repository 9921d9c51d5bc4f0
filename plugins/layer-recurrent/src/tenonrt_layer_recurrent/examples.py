"""Examples that every recurrent layer is tried with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tenonrt.contracts import Case, TensorType

from tenonrt_layer_recurrent.sequence import RecurrentLayer


def examples(
    layer: RecurrentLayer, make: Callable[..., Any], variants: Sequence[tuple[str, Any]] | None = None
) -> Iterable[Case]:
    """Given variants of the attributes with all inputs; without any, the attributes and inputs all layers share."""
    if variants is not None:
        yield from (Case(attrs, _types(layer, attrs, 5, 2), name) for name, attrs in variants)
        return
    for direction in ("forward", "reverse", "bidirectional"):
        for layout in (0, 1):
            attrs = make(hidden_size=3, direction=direction, layout=layout)
            yield Case(attrs, _types(layer, attrs, 5, 2), f"{direction}, layout {layout}")
    plain = make(hidden_size=4)
    yield Case(plain, _types(layer, plain, 7, 3)[:3], "weights only")
    yield Case(plain, _types(layer, plain, 1, 1)[:4], "one step")
    yield Case(plain, _types(layer, plain, 4, 2, "float16")[:4], "float16")
    clipped = make(hidden_size=1, clip=0.5)
    yield Case(clipped, _types(layer, clipped, 5, 2), "clipped")


def _types(layer: RecurrentLayer, attrs: Any, steps: int, batch: int, dtype: str = "float32") -> tuple[TensorType, ...]:
    features = 5
    shapes = layer.operand_shapes(attrs, batch, features)
    sequence = (steps, batch, features) if attrs.layout == 0 else (batch, steps, features)
    rest = [TensorType(s, "int32" if i == 3 else dtype) for i, s in enumerate(shapes)]
    return (TensorType(sequence, dtype), *rest)
