"""TreeEnsembleClassifier of two classes with weights of one alone, which is how boosted trees are exported.

onnx's evaluator finds other scores and labels for most of them. The operator's text leaves open what the class without
weights scores; exporters write for onnxruntime, whose rules these are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array

from tenonrt_layer_onnx_reference.nodes import Operator, encode

Evaluate = Callable[[Operator, Sequence[Array | None]], Sequence[Any]]
_CLASSIFIER, _REGRESSOR = "ai.onnx.ml:TreeEnsembleClassifier", "ai.onnx.ml:TreeEnsembleRegressor"
_TRANSFORMS = ("NONE", "LOGISTIC", "SOFTMAX")


def _either(operator: Operator, name: str) -> Array:
    """Numbers in one of the two attributes that may hold them."""
    given = operator.attributes.get(f"{name}_as_tensor")
    return np.asarray(operator.attributes.get(name, ()) if given is None else given, np.float64).reshape(-1)


def _labels(operator: Operator) -> Sequence[Any]:
    found: Sequence[Any] = operator.attributes.get("classlabels_strings") or operator.attributes.get(
        "classlabels_int64s", ()
    )
    return found


def is_one_sided(operator: Operator) -> bool:
    """Whether an operator is such a classifier."""
    return (
        operator.name == _CLASSIFIER
        and len(_labels(operator)) == 2
        and set(operator.attributes.get("class_ids", ())) in ({0}, {1})
        and _either(operator, "base_values").size <= 1
        and operator.attributes.get("post_transform", "NONE") in _TRANSFORMS
    )


def classify(operator: Operator, arrays: Sequence[Array | None], evaluate: Evaluate) -> list[Array]:
    """The outputs in use: the label of each row, and the scores of both classes.

    The second class is chosen from a sum of one half on where weights are probabilities (none is negative), else above
    zero.
    """
    (sums,) = evaluate(_regressor(operator), arrays)
    weighted = operator.attributes["class_ids"][0]
    score = np.asarray(sums, np.float64).reshape(-1)
    if weighted == 0:  # a base value is the first class's
        score = score + _either(operator, "base_values").sum()
    probabilities = bool((_either(operator, "class_weights") >= 0).all())
    chosen = (score > (0.5 if probabilities else 0)).astype(np.int64)
    labels = _labels(operator)
    named = np.array(labels, object if isinstance(labels[0], str) else np.int64)[chosen]
    found = [named, _scores(operator, score, weighted, probabilities).astype(np.float32)]
    return [array for array, used in zip(found, operator.outputs, strict=False) if used]


def _regressor(operator: Operator) -> Operator:
    """The sums of the weights that a row's leaves have."""
    kept = {
        name.replace("class_", "target_"): value
        for name, value in operator.attributes.items()
        if name.startswith(("nodes_", "class_"))
    }
    kept |= {"target_ids": (0,) * len(operator.attributes["class_ids"]), "n_targets": 1}
    return Operator(_REGRESSOR, operator.version, encode(_REGRESSOR, kept), (True,), ())


def _scores(operator: Operator, score: Array, weighted: int, probabilities: bool) -> Array:
    transform = operator.attributes.get("post_transform", "NONE")
    if weighted == 0:
        if transform == "LOGISTIC":
            return _sigmoid(np.stack([-score, score], 1))
        return np.stack([1 - score if probabilities else -score, score], 1)
    both = np.stack([np.zeros_like(score), score], 1)
    if transform == "SOFTMAX":  # of two numbers, one of which is 0
        return _sigmoid(np.stack([-score, score], 1))
    return _sigmoid(both) if transform == "LOGISTIC" else both


def _sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-np.clip(x, -700, 700)))
    return result
