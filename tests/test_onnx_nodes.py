"""onnx's own tests of single operators, through parsing, building at level 0 and an engine.

Their expected results are computed by onnx's authors, operator by operator. What is not supported is listed here by
operator and by case, and the lists fail when they are out of date.
"""

from __future__ import annotations

import string
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import ExecutionContext, PluginSet, Registry, UnsupportedError

pytestmark = pytest.mark.xdist_group("onnx nodes")

onnx = pytest.importorskip("onnx")

Array = np.ndarray[Any, Any]

# How many cases stop at an operator that nothing maps, those that are expanded from functions included.
UNMAPPED = {
    ":AffineGrid": 4, ":Attention": 93, ":Bernoulli": 3, ":BitCast": 10, ":BlackmanWindow": 2,
    ":CausalConvWithState": 13, ":CenterCropPad": 6, ":Col2Im": 5, ":ConvInteger": 2, ":CumProd": 9, ":DFT": 10,
    ":DeformConv": 4, ":Det": 2, ":DynamicQuantizeLinear": 3, ":Einsum": 9, ":EyeLike": 3, ":GridSample": 18,
    ":HammingWindow": 2, ":HannWindow": 2, ":ImageDecoder": 9, ":LinearAttention": 14, ":MatMulInteger": 1,
    ":MaxUnpool": 2, ":MelWeightMatrix": 1, ":NegativeLogLikelihoodLoss": 52, ":NonMaxSuppression": 10,
    ":Optional": 1, ":OptionalGetElement": 5, ":OptionalHasElement": 8, ":QLinearConv": 1, ":QLinearMatMul": 8,
    ":RandomUniformLike": 3, ":RegexFullMatch": 3, ":ReverseSequence": 3, ":RoiAlign": 3, ":RotaryEmbedding": 8,
    ":STFT": 2, ":SequenceAt": 6, ":SequenceConstruct": 3, ":SequenceEmpty": 6, ":SequenceInsert": 10,
    ":SequenceLength": 6, ":SequenceMap": 6, ":SoftmaxCrossEntropyLoss": 34, ":SplitToSequence": 3,
    ":StringConcat": 5, ":StringNormalizer": 6, ":StringSplit": 6, ":SwiGLU": 3, ":TensorScatter": 3,
    ":TfIdfVectorizer": 7, ":Unique": 7, "ai.onnx.ml:ArrayFeatureExtractor": 1, "ai.onnx.ml:Binarizer": 1,
    "ai.onnx.ml:LabelEncoder": 4, "ai.onnx.ml:TreeEnsemble": 2, "ai.onnx.preview.training:Adagrad": 2,
    "ai.onnx.preview.training:Adam": 2, "ai.onnx.preview.training:Momentum": 3, "ai.onnx.preview:FlexAttention": 11,
}  # fmt: skip
# Cases that are refused for what they ask of a mapped operator, with a part of what the message must say.
REFUSED = {
    "test_affine_grid_2d_align_corners_expanded": "axis 0 has the symbolic length",  # its rank depends on a branch
    "test_affine_grid_2d_expanded": "axis 0 has the symbolic length",
    "test_affine_grid_3d_align_corners_expanded": "cannot be cut into 4 parts",  # in the branch not taken
    "test_affine_grid_3d_expanded": "cannot be cut into 4 parts",
    "test_batchnorm_epsilon_training_mode": "training mode",
    "test_batchnorm_example_training_mode": "training mode",
    "test_identity_opt": "only tensors can be inputs",
    "test_identity_sequence": "only tensors can be inputs",
    "test_not_2d": "uses opset 1",
    "test_not_3d": "uses opset 1",
    "test_not_4d": "uses opset 1",
    "test_scan_sum": "Scan of opset 8",
    "test_spacetodepth_crd_mode_example": "'mode' is 'CRD'",
    "test_training_dropout": "training_mode must be a constant false",
    "test_training_dropout_default": "training_mode must be a constant false",
    "test_training_dropout_default_mask": "training_mode must be a constant false",
    "test_training_dropout_mask": "training_mode must be a constant false",
    "test_training_dropout_zero_ratio": "training_mode must be a constant false",
    "test_training_dropout_zero_ratio_mask": "training_mode must be a constant false",
}
# Expected results that contradict the operator's text: they divide by the fractional size scale * length, where
# length_resized is the output's dim. onnxruntime computes what TenonRT does.
DISPUTED = {
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
}
RIGHT = 1414
# What the operators mean is asked here, and the references say it. Kernels are judged against them by the conformance
# kit, and each would be compiled and tried anew for every case.
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))
VERSION = "1.23."  # of onnx, whose cases the numbers count


@dataclass
class Outcomes:
    """What became of the cases of one letter."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    unmapped: Counter[str] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases() -> dict[str, list[Any]]:
    """Cases by the first letter of their names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and divisions by zero of the code that makes the data
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases(None)
    letters = defaultdict(list)
    for case in found:
        if case.model is not None:
            letters[case.name.removeprefix("test_")[0]].append(case)
    return letters


def array(value: Any) -> Array:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def with_known_axes(model: Any, inputs: list[Any]) -> list[Any]:
    """Layers know their axes: an input ``axes`` becomes a constant. Returns the inputs that are left."""
    kept = []
    for declared, value in zip(list(model.graph.input), inputs, strict=True):
        if declared.name == "axes":
            model.graph.input.remove(declared)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array(value), "axes"))
        else:
            kept.append(value)
    return kept


def difference(found: Array, expected: Array, relative: float) -> str:
    """Why a result is wrong, or an empty string."""
    if expected.dtype.kind in "OUS" or found.dtype.kind == "O":
        return "" if found.astype(str).tolist() == expected.astype(str).tolist() else "other strings"
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        return f"{found.dtype}{found.shape}, expected {expected.dtype}{expected.shape}"
    if expected.dtype.kind in "iub":
        return "" if np.array_equal(found, expected) else "other integers"
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    narrow = expected.dtype.itemsize < 4  # half the last place of a narrow type is a hundredth
    tolerance, least = (max(1e-2, relative), 1e-2) if narrow else (max(1e-4, relative), 1e-5)
    a, b = found.astype(wide), expected.astype(wide)
    if np.allclose(a, b, rtol=tolerance, atol=least, equal_nan=True):
        return ""
    with np.errstate(invalid="ignore"):
        return f"off by up to {np.nanmax(np.abs(a - b)):.3g}"


def run(case: Any, path: Path) -> Iterator[str]:
    """The differences of all outputs of all data sets of a case."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in model.graph.input]
    kept = with_known_axes(model, list(case.data_sets[0][0]))
    left = [value.name for value in model.graph.input]
    path.write_bytes(model.SerializeToString())
    context = ExecutionContext(tenonrt.compile(tenonrt.parse(path, registry=REGISTRY), optimization_level=0))
    for given, expected in case.data_sets:
        feeds = {name: array(value) for name, value in zip(names, given, strict=True) if name in left}
        found = list(context.execute(feeds).values())
        for value, other in zip(found, expected, strict=True):
            if why := difference(value, array(other), case.rtol):
                yield why
    assert len(kept) == len(left)


def outcomes(chosen: list[Any], folder: Path) -> Outcomes:
    result = Outcomes()
    for case in chosen:
        path = folder / f"{case.name}.onnx"
        try:
            wrong = list(run(case, path))
        except UnsupportedError as error:
            result.unmapped.update(error.operators)
        except tenonrt.ParseError as error:
            result.refused[case.name] = str(error).removeprefix(f"{path}: ")
        except Exception as error:  # noqa: BLE001 - every failing case is to be named
            result.wrong.append(f"{case.name}: {error!r}"[:400])
        else:
            result.right += not wrong
            result.wrong.extend(f"{case.name}: {why}" for why in wrong)
    return result


@pytest.fixture(scope="module")
def finished() -> dict[str, Outcomes]:
    """The outcomes of the letters that have run, for the counts over all of them."""
    return {}


@pytest.mark.parametrize("letter", string.ascii_lowercase)
def test_cases(letter: str, cases: dict[str, list[Any]], finished: dict[str, Outcomes], tmp_path: Path) -> None:
    found = finished[letter] = outcomes(cases.get(letter, []), tmp_path)
    wrong = [line for line in found.wrong if line.partition(":")[0] not in DISPUTED]
    assert not wrong, f"{len(wrong)} of {len(cases[letter])}:\n" + "\n".join(wrong)
    if not onnx.__version__.startswith(VERSION):
        return
    stray = {name: why for name, why in found.refused.items() if REFUSED.get(name, "\0") not in why}
    assert not stray, "these cases are refused, and not listed with their reason"


def test_the_lists_are_up_to_date(finished: dict[str, Outcomes]) -> None:
    """An operator or case that has come to be supported leaves its list."""
    if len(finished) < len(string.ascii_lowercase) or not onnx.__version__.startswith(VERSION):
        pytest.skip(f"counts the cases of all letters, of onnx {VERSION}x")
    unmapped: Counter[str] = sum((found.unmapped for found in finished.values()), Counter())
    assert dict(sorted(unmapped.items())) == UNMAPPED
    assert sorted(name for found in finished.values() for name in found.refused) == sorted(REFUSED)
    disputed = {line.partition(":")[0] for found in finished.values() for line in found.wrong}
    assert disputed == DISPUTED
    assert sum(found.right for found in finished.values()) == RIGHT
