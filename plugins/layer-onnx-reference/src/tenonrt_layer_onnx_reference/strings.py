"""Operators on strings."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import TensorInfo, TensorType, broadcast, required, unknown

from tenonrt_layer_onnx_reference.nodes import Operator

Inputs = Sequence[TensorInfo | None]


def _strings(inputs: Inputs, count: int) -> list[TensorInfo]:
    given = required(inputs, count)
    for info in given:
        if info.dtype != "string":
            raise ValueError(f"expected strings, found {info.type}")
    return given


def _concat(operator: Operator, inputs: Inputs) -> list[TensorType]:
    a, b = _strings(inputs, 2)
    return [TensorType(broadcast(a.shape, b.shape), "string")]


def _normalize(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """[C] or [1, C]; stop words disappear."""
    (x,) = _strings(inputs, 1)
    if x.rank not in (1, 2):
        raise ValueError(f"expected a vector or one row of strings, found {x.type}")
    return [TensorType((*x.shape[:-1], unknown()), "string")]


def _split(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """The parts, filled up with empty strings to the longest, and how many each string has."""
    (x,) = _strings(inputs, 1)
    return [TensorType((*x.shape, unknown()), "string"), TensorType(x.shape, "int64")]


def _match(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = _strings(inputs, 1)
    return [TensorType(x.shape, "bool")]


def _tfidf(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    indexes = operator.attributes.get("ngram_indexes", ())
    if not indexes or x.rank not in (1, 2):
        raise ValueError(f"expected ngram_indexes and a vector or a matrix, found {x.type}")
    return [TensorType((*x.shape[:-1], max(indexes) + 1), "float32")]


RULES = {
    "StringConcat": _concat, "StringNormalizer": _normalize, "StringSplit": _split, "RegexFullMatch": _match,
    "TfIdfVectorizer": _tfidf,
}  # fmt: skip
