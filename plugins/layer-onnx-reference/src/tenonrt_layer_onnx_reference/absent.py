"""Operators of ONNX that its reference evaluator lacks, in NumPy: their types, and what they compute.

A pipeline of scikit-learn ends in a ZipMap more often than not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, TensorInfo, TensorType, boxed, contents, is_container, ranked, required, unknown

from tenonrt_layer_onnx_reference.nodes import Operator
from tenonrt_layer_onnx_reference.types import element_type

Inputs = Sequence[TensorInfo | None]
Compute = Callable[[Operator, Sequence[Any]], Array]
_MAX_MAP = 1 << 24  # columns of a row that a map becomes: how many is the model's word


def _labels(operator: Operator) -> tuple[Any, ...]:
    """The class labels, of which there is one kind."""
    kinds = [operator.attributes.get(name) for name in ("classlabels_strings", "classlabels_int64s")]
    given = [tuple(labels) for labels in kinds if labels]
    if len(given) != 1:
        raise ValueError("ZipMap needs classlabels_strings or classlabels_int64s, and not both")
    return given[0]


def _zipped_type(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    labels = _labels(operator)
    if x.rank not in (1, 2) or (isinstance(x.shape[-1], int) and x.shape[-1] != len(labels)):
        raise ValueError(f"ZipMap has {len(labels)} labels for {x.type}")
    key = "string" if isinstance(labels[0], str) else "int64"
    return [TensorType((), f"sequence(map({key},float32))")]


def _zipped(operator: Operator, values: Sequence[Any]) -> Array:
    """A map from label to score for each row."""
    labels = _labels(operator)
    return boxed([dict(zip(labels, map(float, row), strict=True)) for row in np.atleast_2d(values[0])])


def _cast_map_type(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    if not is_container(x.dtype) or contents(x.dtype)[0] != "map" or contents(x.dtype)[1][0] != "int64":
        raise ValueError(f"CastMap takes a map of int64, found {x.type}")
    target, form, count = (operator.attributes.get(n, d) for n, d in (
        ("cast_to", "TO_FLOAT"), ("map_form", "DENSE"), ("max_map", 1)))  # fmt: skip
    if target not in _CASTS or form not in ("DENSE", "SPARSE") or not 0 < count <= _MAX_MAP:
        raise ValueError(f"CastMap has cast_to {target!r}, map_form {form!r} and max_map {count}")
    if ranked(contents(x.dtype)[1][1])[0] not in ("string", "float32"):
        raise ValueError(f"CastMap takes strings or floats, found {x.type}")
    columns = count if form == "SPARSE" else unknown(_MAX_MAP)
    return [TensorType((1, columns), _CASTS[target])]


_CASTS = {"TO_FLOAT": "float32", "TO_STRING": "string", "TO_INT64": "int64"}


def _cast_map(operator: Operator, values: Sequence[Any]) -> Array:
    """The values in order of their keys, or each in the column that its key says."""
    (given,), dtype = values, _CASTS[operator.attributes.get("cast_to", "TO_FLOAT")]
    if operator.attributes.get("map_form", "DENSE") == "DENSE":
        row = [given[key] for key in sorted(given)]
    else:
        columns = operator.attributes["max_map"]
        if any(not 0 <= key < columns for key in given):
            raise ValueError(f"a key is not one of the {columns} columns")
        row = [given.get(column, "" if dtype == "string" else 0) for column in range(columns)]
    if dtype == "string":
        return np.array([[_text(value) for value in row]], object).reshape(1, len(row))
    return np.array([[float(value) for value in row]], np.float64).reshape(1, len(row)).astype(dtype)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{float(value):g}"


def _mapped_type(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    _categories(operator)
    return [TensorType(x.shape, "int64" if x.dtype == "string" else "string")]


def _categories(operator: Operator) -> list[tuple[str, int]]:
    words, numbers = operator.attributes.get("cats_strings", ()), operator.attributes.get("cats_int64s", ())
    if len(words) != len(numbers):
        raise ValueError(f"CategoryMapper has {len(words)} strings for {len(numbers)} numbers")
    return list(zip(words, numbers, strict=True))


def _mapped(operator: Operator, values: Sequence[Any]) -> Array:
    """Strings to their numbers, or numbers to their strings."""
    (x,) = values
    pairs = _categories(operator)
    if x.dtype == object:
        known, default = dict(pairs), operator.attributes.get("default_int64", -1)
        return np.array([known.get(value, default) for value in x.flat], np.int64).reshape(x.shape)
    named, fallback = {n: word for word, n in pairs}, operator.attributes.get("default_string", "_Unused")
    result = np.empty(x.shape, object)
    result.reshape(-1)[:] = [named.get(int(value), fallback) for value in x.flat]
    return result


def _drawn_type(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    count = operator.attributes.get("sample_size", 1)
    if x.rank != 2 or count < 1:
        raise ValueError(f"Multinomial draws {count} of {x.type}; a row of log-probabilities per image is needed")
    return [TensorType((x.shape[0], count), element_type(operator.attributes.get("dtype", 6)))]


def _drawn(operator: Operator, values: Sequence[Any]) -> Array:
    """Classes by their log-probabilities, which need not add up to one: the largest of each with Gumbel's noise."""
    (x,) = values
    rng = np.random.default_rng(int(abs(operator.attributes.get("seed", 0.0)) * 2**20))
    count = operator.attributes.get("sample_size", 1)
    target = np.dtype(element_type(operator.attributes.get("dtype", 6)))
    chosen = [(x.astype(np.float64) + rng.gumbel(size=x.shape)).argmax(1) for _ in range(count)]
    return np.stack(chosen, 1).astype(target)


RULES = {
    "ai.onnx.ml:ZipMap": _zipped_type, "ai.onnx.ml:CastMap": _cast_map_type,
    "ai.onnx.ml:CategoryMapper": _mapped_type, ":Multinomial": _drawn_type,
}  # fmt: skip
COMPUTE: dict[str, Compute] = {
    "ai.onnx.ml:ZipMap": _zipped, "ai.onnx.ml:CastMap": _cast_map, "ai.onnx.ml:CategoryMapper": _mapped,
    ":Multinomial": _drawn,
}  # fmt: skip
