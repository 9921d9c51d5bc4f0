"""Classical machine learning (ai.onnx.ml) and optimizers (ai.onnx.preview.training)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import Dimension, TensorInfo, TensorType, dtype_name, required, unknown

from tenonrt_layer_onnx_reference.nodes import Operator

Inputs = Sequence[TensorInfo | None]


def _same(operator: Operator, inputs: Inputs) -> list[TensorType]:
    return [required(inputs, 1)[0].type]


def _float(operator: Operator, inputs: Inputs) -> list[TensorType]:
    return [TensorType(required(inputs, 1)[0].shape, "float32")]


def _encoded_labels(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    for name, dtype in (("values_strings", "string"), ("values_int64s", "int64"), ("values_floats", "float32")):
        if name in operator.attributes:
            return [TensorType(x.shape, dtype)]
    if "values_tensor" not in operator.attributes:
        raise ValueError("LabelEncoder needs one of its values_ attributes")
    return [TensorType(x.shape, dtype_name(operator.attributes["values_tensor"].dtype))]


def _picked_features(operator: Operator, inputs: Inputs) -> list[TensorType]:
    x, indices = required(inputs, 2)
    before: tuple[Dimension, ...] = x.shape[:-1] if x.rank > 1 else (1,)
    return [TensorType((*before, indices.type.size), x.dtype)]


def _joined_features(operator: Operator, inputs: Inputs) -> list[TensorType]:
    given = required(inputs, len(inputs))
    return [TensorType((given[0].shape[0], unknown()), "float32")]


def _dictionary(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """DictVectorizer: a map to the row of its values; their type is the map's."""
    (x,) = required(inputs, 1)
    dtype = x.dtype.rstrip(")").rpartition(",")[2].partition(":")[0]
    return [TensorType((1, unknown()), dtype)]


def _one_hot(operator: Operator, inputs: Inputs) -> list[TensorType]:
    (x,) = required(inputs, 1)
    categories = operator.attributes.get("cats_int64s") or operator.attributes.get("cats_strings") or ()
    return [TensorType((*x.shape, len(categories)), "float32")]


def _targets(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """Regressors: a row of targets per row of features."""
    (x,) = required(inputs, 1)
    count = operator.attributes.get("n_targets", operator.attributes.get("targets", 1))
    dtype = x.dtype if operator.type == "TreeEnsemble" else "float32"
    return [TensorType((x.shape[0] if x.rank > 1 else 1, count), dtype)]


def _classes(operator: Operator, inputs: Inputs) -> list[TensorType]:
    """Classifiers: the label of each row, and a score per class."""
    (x,) = required(inputs, 1)
    rows = x.shape[0] if x.rank > 1 else 1
    names = ("classlabels_strings", "classlabels_ints", "classlabels_int64s")
    label = "string" if operator.attributes.get("classlabels_strings") else "int64"
    count = max((len(operator.attributes.get(name, ())) for name in names), default=0)
    return [TensorType((rows,), label), TensorType((rows, count or unknown()), "float32")]


def _optimized(states: int, shared: int = 2) -> Callable[[Operator, Inputs], list[TensorType]]:
    """Outputs of an optimizer of n tensors: the new tensors, then each of their states. Inputs add the gradients."""

    def rule(operator: Operator, inputs: Inputs) -> list[TensorType]:
        given = required(inputs, len(inputs))[shared:]
        count, rest = divmod(len(given), 2 + states)
        if rest or not count:
            raise ValueError(f"found {len(given)} tensors, expected {2 + states} for each one that is optimized")
        kept = [*given[:count], *given[2 * count :]]
        return [info.type for info in kept]

    return rule


_ML = {
    "ArrayFeatureExtractor": _picked_features, "Binarizer": _same, "DictVectorizer": _dictionary,
    "FeatureVectorizer": _joined_features, "Imputer": _same, "LabelEncoder": _encoded_labels,
    "LinearClassifier": _classes, "LinearRegressor": _targets, "Normalizer": _float, "OneHotEncoder": _one_hot,
    "Scaler": _float, "SVMClassifier": _classes, "SVMRegressor": _targets, "TreeEnsemble": _targets,
    "TreeEnsembleClassifier": _classes, "TreeEnsembleRegressor": _targets,
}  # fmt: skip
_TRAINING = {"Adagrad": _optimized(1), "Adam": _optimized(2), "Momentum": _optimized(1)}
RULES = {f"ai.onnx.ml:{name}": rule for name, rule in _ML.items()} | {
    f"ai.onnx.preview.training:{name}": rule for name, rule in _TRAINING.items()
}
