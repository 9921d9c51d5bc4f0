"""Types of the outputs of the operators that `OnnxReferenceLayer` runs, by the text of each operator in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tenonrt.contracts import TensorInfo, TensorType, is_container

from tenonrt_layer_onnx_reference import absent, general, learning, sequences, strings
from tenonrt_layer_onnx_reference.nodes import Operator

Rule = Callable[[Operator, Sequence[TensorInfo | None]], list[TensorType]]

RULES: dict[str, Rule] = {
    **{f":{name}": rule for name, rule in (sequences.RULES | strings.RULES | general.RULES).items()},
    **learning.RULES,
    **absent.RULES,
}


def infer(operator: Operator, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
    """`ValueError` for an operator without a rule, and for what the rule refuses."""
    rule = RULES.get(operator.name)
    if rule is None:
        raise ValueError(f"{operator.name} is not one of the operators that this layer runs")
    _check_attributes(operator)
    _check_types(operator, inputs)
    types = rule(operator, inputs)
    missing = len(operator.outputs) - len(types)
    if missing > 0:
        raise ValueError(f"{operator.name} has {len(types)} outputs, the model uses {len(operator.outputs)}")
    # An output that is left out is an empty array.
    pairs = zip(operator.outputs, types, strict=False)
    return [TensorInfo(type if used else TensorType((0,), "float32")) for used, type in pairs]


# Names of element types in onnx's schemas, where they differ from NumPy's.
_SCHEMA_NAMES = {"float32": "float", "float64": "double"}


def _check_types(operator: Operator, inputs: Sequence[TensorInfo | None]) -> None:
    """Refuse element types that onnx's schema of the operator does not list; rules look at containers."""
    formal = _formal_inputs(operator.name, operator.version)
    for index, info in enumerate(inputs):
        if info is None or is_container(info.dtype) or not formal:
            continue
        allowed = formal[min(index, len(formal) - 1)]  # the last one may be variadic
        if f"tensor({_SCHEMA_NAMES.get(info.dtype, info.dtype)})" not in allowed:
            raise ValueError(f"input {index} of {operator.name} is {info.type}; it must be one of {sorted(allowed)}")


def _check_attributes(operator: Operator) -> None:
    """Refuse attributes that onnx's schema lacks or has with another type, and the lack of those it requires."""
    from onnx import NodeProto

    known = _schema(operator.name, operator.version).attributes
    given = {attribute.name: attribute.type for attribute in NodeProto.FromString(operator.node).attribute}
    for name, type in given.items():
        if name not in known:
            raise ValueError(f"{operator.name} has no attribute {name!r}; it has {', '.join(known) or 'none'}")
        if type != known[name].type.value and operator.name != ":Optional":  # whose type is kept as a name
            raise ValueError(f"attribute {name!r} of {operator.name} must be of type {known[name].type.name}")
    missing = [name for name, attribute in known.items() if attribute.required and name not in given]
    if missing:
        raise ValueError(f"{operator.name} needs its attributes {', '.join(missing)}")


def _formal_inputs(name: str, version: int) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(parameter.types) for parameter in _schema(name, version).inputs)


@cache
def _schema(name: str, version: int) -> Any:
    from onnx import defs

    domain, _, kind = name.partition(":")
    try:
        return defs.get_schema(kind, version, domain)
    except defs.SchemaError as error:
        raise ValueError(f"onnx knows no {name} of version {version}") from error
