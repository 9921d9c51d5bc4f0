"""Running operators through ``onnx.reference``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from tenonrt.contracts import Array, ExecutionError, boxed

from tenonrt_layer_onnx_reference.absent import COMPUTE
from tenonrt_layer_onnx_reference.nodes import Operator
from tenonrt_layer_onnx_reference.trees import classify, is_one_sided

if TYPE_CHECKING:
    from onnx.reference import ReferenceEvaluator

# Their results are floats for integers too, where onnx's code returns what it is given, or refuses it.
_OF_FLOATS = frozenset({"ai.onnx.ml:Scaler", "ai.onnx.ml:Normalizer"})


def evaluate(operator: Operator, arrays: Sequence[Array | None]) -> list[Array]:
    """The outputs in order; an unused one is an empty array. `ExecutionError` says what the evaluator refused."""
    if operator.name == ":Optional":  # the evaluator wants a TypeProto where the value tells everything
        return [boxed(_value(arrays[0]) if arrays and arrays[0] is not None else None)]
    try:
        if operator.name in COMPUTE:
            return [COMPUTE[operator.name](operator, [None if a is None else _value(a) for a in arrays])]
        results = _results(operator, arrays)
    except Exception as error:  # whatever its Python code raises for inputs that the operator does not take
        raise ExecutionError(f"onnx's {operator.name} {operator.version}: {error!r}") from error
    found = iter(results)
    return [_array(next(found)) if used else np.empty(0, np.float32) for used in operator.outputs]


def _results(operator: Operator, arrays: Sequence[Array | None]) -> Sequence[Any]:
    if is_one_sided(operator):
        return classify(operator, arrays, _results)
    if operator.name in _OF_FLOATS:
        arrays = [a.astype(np.float32) if a is not None and a.dtype.kind in "iu" else a for a in arrays]
    evaluator = _evaluator(operator, tuple(a is not None for a in arrays))
    return list(evaluator.run(None, {f"x{i}": _value(a) for i, a in enumerate(arrays) if a is not None}, {}))


def evaluate_random(operator: Operator, arrays: Sequence[Array | None], generator: np.random.Generator) -> list[Array]:
    """The same for an operator that draws numbers: seeded by the model, or else by the generator."""
    from onnx import NodeProto
    from onnx.helper import make_attribute

    if "seed" in operator.attributes:
        return evaluate(operator, arrays)
    node = NodeProto.FromString(operator.node)
    node.attribute.append(make_attribute("seed", float(generator.integers(1 << 24))))
    seeded = Operator(operator.name, operator.version, node.SerializeToString(), operator.outputs, operator.declared)
    return evaluate(seeded, arrays)


@lru_cache(256)
def _evaluator(operator: Operator, present: tuple[bool, ...]) -> ReferenceEvaluator:
    """The operator as the only node of a function, which is what tells the evaluator the operator set."""
    from onnx import FunctionProto, NodeProto
    from onnx.helper import make_opsetid
    from onnx.reference import ReferenceEvaluator

    node = NodeProto.FromString(operator.node)
    node.input.extend(f"x{i}" if given else "" for i, given in enumerate(present))
    node.output.extend(f"y{i}" if used else "" for i, used in enumerate(operator.outputs))
    function = FunctionProto(name=operator.type, domain="tenonrt")
    function.input.extend(name for name in node.input if name)
    function.output.extend(name for name in node.output if name)
    function.node.append(node)
    function.opset_import.append(make_opsetid(operator.domain, operator.version))
    return ReferenceEvaluator(function)


def _value(array: Array) -> Any:
    """What the evaluator takes: lists and dicts as they are. It may keep what it is given, so that is a copy."""
    if array.dtype == object and array.ndim == 0 and not isinstance(array.item(), str):
        value = array.item()
        return list(value) if isinstance(value, list) else value
    return array.copy()


def _array(result: Any) -> Array:
    if isinstance(result, list | dict | tuple) or result is None:
        return boxed(list(result) if isinstance(result, tuple) else result)
    array = np.asarray(result)
    return array.astype(object) if array.dtype.kind in "UST" else array
