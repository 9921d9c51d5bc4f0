"""Sequences and optionals: what is in them is part of their element types."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import TensorInfo, TensorType, contents, is_container, joined, ranked, required, unknown

from tenonrt_layer_onnx_reference.nodes import Operator
from tenonrt_layer_onnx_reference.types import element_type

Inputs = Sequence[TensorInfo | None]


def _content(info: TensorInfo, kind: str) -> str:
    """What is in a sequence or an optional."""
    if not is_container(info.dtype) or contents(info.dtype)[0] != kind:
        raise ValueError(f"expected a value of type {kind}(...), found {info.type}")
    return contents(info.dtype)[1][0]


def _scalar(dtype: str) -> TensorType:
    return TensorType((), dtype)


def _named(type: TensorType) -> str:
    return type.dtype if is_container(type.dtype) else f"{type.dtype}:{type.rank}"


def _tensor(operator: Operator, content: str) -> TensorType:
    """A tensor out of a container: the rank is that of the tensors in it, or else what the model declares."""
    if is_container(content):
        return _scalar(content)
    dtype, rank = ranked(content)
    declared = operator.declared_type(0)
    if rank is None and declared is not None:
        rank = ranked(declared)[1]
    if rank is None:
        raise ValueError(
            f"the rank of the {dtype} tensors is not known; declare the type of the output (value_info) in the model"
        )
    return TensorType(tuple(unknown() for _ in range(rank)), dtype)


def _at(operator: Operator, inputs: Inputs) -> list[TensorType]:
    sequence, _ = required(inputs, 2)
    return [_tensor(operator, _content(sequence, "sequence"))]


def _construct(operator: Operator, inputs: Inputs) -> list[TensorType]:
    given = required(inputs, len(inputs))
    if not given:
        raise ValueError("a sequence needs a first element; SequenceEmpty makes one without")
    content = _named(given[0].type)
    for info in given[1:]:
        content = _common(content, _named(info.type))
    return [_scalar(f"sequence({content})")]


def _common(content: str, other: str) -> str:
    found = joined(content, other)
    if found is None:
        raise ValueError(f"a sequence of {content} cannot hold {other}")
    return found


def _empty(operator: Operator, inputs: Inputs) -> list[TensorType]:
    return [_scalar(f"sequence({element_type(operator.attributes.get('dtype', 1))})")]


def _insert(operator: Operator, inputs: Inputs) -> list[TensorType]:
    sequence, tensor = required(inputs, 2)
    return [_scalar(f"sequence({_common(_content(sequence, 'sequence'), _named(tensor.type))})")]


def _erase(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (sequence,) = required(inputs, 1)
    _content(sequence, "sequence")
    return [sequence.type]


def _length(operator: Operator, inputs: Inputs) -> list[TensorType]:
    _content(required(inputs, 1)[0], "sequence")
    return [_scalar("int64")]


def _join(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """ConcatFromSequence: along an axis, or along a new one."""
    type = _tensor(operator, _content(required(inputs, 1)[0], "sequence"))
    added = 1 if operator.attributes.get("new_axis", 0) else 0
    declared = operator.declared_type(0)
    if added and ranked(_content(required(inputs, 1)[0], "sequence"))[1] is None and declared is not None:
        added = 0  # the rank is the output's already
    return [TensorType((*type.shape, *(unknown() for _ in range(added))), type.dtype)]


def _split(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    dropped = (len(inputs) < 2 or inputs[1] is None) and not operator.attributes.get("keepdims", 1)
    return [_scalar(f"sequence({x.dtype}:{x.rank - 1 if dropped else x.rank})")]


def _optional(operator: Operator, inputs: Inputs) -> list[TensorType]:
    if inputs and inputs[0] is not None:
        return [_scalar(f"optional({_named(inputs[0].type)})")]
    content = operator.attributes.get("type")
    if not isinstance(content, str):
        raise ValueError("an empty optional needs the attribute 'type'")
    return [_scalar(f"optional({content})")]


def _element(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """OptionalGetElement: since opset 18 also of what is no optional."""
    (given,) = required(inputs, 1)
    if not is_container(given.dtype) or contents(given.dtype)[0] != "optional":
        return [given.type]
    return [_tensor(operator, _content(given, "optional"))]


def _has_element(operator: Operator, inputs: Inputs) -> list[TensorType]:
    return [_scalar("bool")]


RULES = {
    "SequenceAt": _at, "SequenceConstruct": _construct, "SequenceEmpty": _empty, "SequenceInsert": _insert,
    "SequenceErase": _erase, "SequenceLength": _length, "ConcatFromSequence": _join, "SplitToSequence": _split,
    "Optional": _optional, "OptionalGetElement": _element, "OptionalHasElement": _has_element,
}  # fmt: skip
