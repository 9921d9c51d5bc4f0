"""onnx's own conformance cases, by its standard runner, through the backend: parser, builder at level 0, plan, engine.

Their expected results are computed by onnx's authors. What does not pass is listed here with the reason, and the list
fails when it is out of date.
"""

from __future__ import annotations

import string
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from tenonrt import PluginSet, Registry, TenonError

onnx = pytest.importorskip("onnx")

from tenonrt_parser_onnx.backend import Prepared, TenonBackend  # noqa: E402 - needs onnx

pytestmark = pytest.mark.xdist_group("onnx conformance")  # the counts are over all letters

PACK = "tenonrt-layer-onnx-reference"
VERSION = "1.23."  # of onnx, whose cases the numbers count
PASSED, NATIVE = 2006, 1871
# Names of cases, and a part of what their failure says.
FAILURES = {
    # Draw random numbers; what they compare with came from another generator.
    "test_bernoulli": "Not equal to tolerance",
    "test_bernoulli_expanded": "Not equal to tolerance",
    "test_bernoulli_double": "Not equal to tolerance",
    "test_bernoulli_double_expanded": "Not equal to tolerance",
    "test_bernoulli_seed": "Not equal to tolerance",
    "test_bernoulli_seed_expanded": "Not equal to tolerance",
    # Expected results that contradict the operator's text: they divide by the fractional size scale * length, where
    # length_resized is the output's dim. onnxruntime computes what TenonRT does.
    "test_resize_downsample_scales_cubic_align_corners": "Not equal to tolerance",
    "test_resize_downsample_scales_linear_align_corners": "Not equal to tolerance",
    # One step of float16 off, at one element: intermediate results are rounded to float16 in other places.
    "test_attention_4d_causal_fp16": "Not equal to tolerance",
    "test_attention_4d_causal_fp16_expanded": "Not equal to tolerance",
    # The rank depends on sizes that are known only at run time.
    "test_affine_grid_2d_expanded": "axis 0 has the symbolic length",
    "test_affine_grid_2d_align_corners_expanded": "axis 0 has the symbolic length",
    "test_affine_grid_3d_align_corners_expanded": "expected one element type and rank",
    # Derivatives of a graph: nothing computes them, onnx's reference neither.
    "test_gradient_of_add": "Gradient",
    "test_gradient_of_add_and_mul": "Gradient",
    # Opset 8 only: a batch axis, removed one version later.
    "test_scan_sum": "Scan of opset 8",
    # An input without elements; a named dimension is taken to be at least 1.
    "test_sequence_model8": "built for at least 1",
    # The runner takes the length of a scalar in a sequence.
    "test_loop16_seq_none": "Unable to compare",
}


class Backend(TenonBackend):
    """What the operators mean is asked here, and references say it: no kernel is compiled or tried in a process."""

    registry: ClassVar[Registry] = Registry(
        PluginSet(deny=("tenonrt-kernel-llvm", "tenonrt-kernel-numpy:cpu/[CF]*", "acme-tenonrt"))
    )
    native: ClassVar[bool] = True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **kwargs: Any) -> Prepared:
        prepared = super().prepare(model, device, **kwargs)
        needed = {requirement.distribution for requirement in prepared.engine.header.requires}
        Backend.native = PACK not in needed
        return prepared


@dataclass
class Outcomes:
    """What became of the cases of one letter."""

    passed: int = 0
    native: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases() -> dict[str, dict[str, Callable[[Any], None]]]:
    """The runner's functions by name, by the first letter. Models that would be downloaded are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and divisions by zero of the code that makes the data
        from onnx.backend.test.runner import Runner

        classes = Runner(Backend, __name__).test_cases
    letters: dict[str, dict[str, Callable[[Any], None]]] = defaultdict(dict)
    for name, tests in classes.items():
        for test in dir(tests):
            if name != "OnnxBackendRealModelTest" and test.startswith("test_") and test.endswith("_cpu"):
                case = test.removesuffix("_cpu")
                letters[case.removeprefix("test_")[0].lower()][case] = getattr(tests, test)
    return letters


@pytest.fixture(scope="module")
def finished() -> dict[str, Outcomes]:
    """The outcomes of the letters that have run, for the counts over all of them."""
    return {}


def outcomes(chosen: dict[str, Callable[[Any], None]]) -> Outcomes:
    result = Outcomes()
    for name, case in chosen.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of onnx's reference code, whose layers the pack wraps
                case(None)
        except (TenonError, AssertionError, TypeError) as error:  # anything else is a defect, and fails the test
            result.failed[name] = str(error)
        else:
            result.passed += 1
            result.native += Backend.native
    return result


@pytest.mark.parametrize("letter", string.ascii_lowercase)
def test_cases(letter: str, cases: dict[str, dict[str, Callable[[Any], None]]], finished: dict[str, Outcomes]) -> None:
    found = finished[letter] = outcomes(cases.get(letter, {}))
    if not onnx.__version__.startswith(VERSION):
        pytest.skip(f"the list is of the cases of onnx {VERSION}x")
    stray = {name: why[:400] for name, why in found.failed.items() if FAILURES.get(name, "\0") not in why}
    assert not stray, "these cases fail, and are not listed with their reason"
    listed = {name for name in FAILURES if name in cases.get(letter, {})}
    assert listed == set(found.failed), "these cases pass, and are listed as failures"


def test_counts(finished: dict[str, Outcomes]) -> None:
    """How many of onnx's 2,024 cases pass, and how many of those without the pack of onnx's own implementations."""
    if len(finished) < len(string.ascii_lowercase) or not onnx.__version__.startswith(VERSION):
        pytest.skip(f"counts the cases of all letters, of onnx {VERSION}x")
    assert sum(found.passed + len(found.failed) for found in finished.values()) == PASSED + len(FAILURES)
    assert sum(found.passed for found in finished.values()) == PASSED
    assert sum(found.native for found in finished.values()) == NATIVE
