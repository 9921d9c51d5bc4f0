"""Reductions that are exported in parts: norms, sums of squares, logarithms of sums and of sums of powers of e."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tenonrt.contracts import GraphView, Layer, Pass, Patch, Tensor, is_float

from tenonrt_passes_standard.matching import scalar, sole

# (operation of the Reduce, operation of the Unary after it) -> the Reduce that is both.
_AFTER = {("sum_square", "sqrt"): "l2", ("sum", "log"): "log_sum"}


class JoinReductions(Pass):
    """|x| summed is an L1 norm, x * x summed a sum of squares, the root of that an L2 norm, a sum's log a LogSum.

    A LogSum of exp(x) is a LogSumExp, which does not overflow.
    """

    kinds = frozenset({"Reduce", "Unary"})

    def rewrite(self, view: GraphView, layer: Layer) -> Patch | None:
        result = layer.outputs[0]
        if not is_float(result.type.dtype):
            return None
        if layer.kind == "Unary":
            before = sole(view, layer.inputs[0], "Reduce")
            joined = None if before is None else _AFTER.get((before.attrs.operation, layer.attrs.operation))
            return None if before is None or joined is None else _replaced(result, before, before.inputs, joined)
        found = _before(view, layer)
        return None if found is None else _replaced(result, layer, found[1], found[0])


def _before(view: GraphView, layer: Layer) -> tuple[str, Sequence[Tensor | None]] | None:
    """What a Reduce is together with the layer before it, and of what."""
    source, operation = layer.inputs[0], layer.attrs.operation
    if operation == "sum":
        if (absolute := sole(view, source, "Unary", "abs")) is not None:
            return "l1", absolute.inputs
        if (power := sole(view, source, "Elementwise", "pow")) is not None and scalar(power.inputs[1]) == 2.0:
            return "sum_square", power.inputs[:1]
        square = sole(view, source, "Elementwise", "prod")
        if square is not None and square.inputs[0] is square.inputs[1]:
            return "sum_square", square.inputs[:1]
    if operation == "log_sum" and (exponential := sole(view, source, "Unary", "exp")) is not None:
        return "log_sum_exp", exponential.inputs
    return None


def _replaced(result: Tensor, reduce: Layer, inputs: Sequence[Tensor | None], operation: str) -> Patch:
    patch = Patch(f"together with what is beside it, it is the reduction {operation}")
    attrs = msgspec.structs.replace(reduce.attrs, operation=operation)
    patch.replace(result, patch.add("Reduce", list(inputs), attrs)[0])
    return patch
