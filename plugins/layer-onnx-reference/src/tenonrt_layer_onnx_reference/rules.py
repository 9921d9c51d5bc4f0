"""Types of the outputs of the operators that `OnnxReferenceLayer` runs, by the text of each operator in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import TensorInfo, TensorType

from tenonrt_layer_onnx_reference import general, learning, sequences, strings
from tenonrt_layer_onnx_reference.nodes import Operator

Rule = Callable[[Operator, Sequence[TensorInfo | None]], list[TensorType]]

RULES: dict[str, Rule] = {
    **{f":{name}": rule for name, rule in (sequences.RULES | strings.RULES | general.RULES).items()},
    **learning.RULES,
}


def infer(operator: Operator, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
    """`ValueError` for an operator without a rule, and for what the rule refuses."""
    rule = RULES.get(operator.name)
    if rule is None:
        raise ValueError(f"{operator.name} is not one of the operators that this layer runs")
    types = rule(operator, inputs)
    missing = len(operator.outputs) - len(types)
    if missing > 0:
        raise ValueError(f"{operator.name} has {len(types)} outputs, the model uses {len(operator.outputs)}")
    # An output that is left out is an empty array.
    pairs = zip(operator.outputs, types, strict=False)
    return [TensorInfo(type if used else TensorType((0,), "float32")) for used, type in pairs]
