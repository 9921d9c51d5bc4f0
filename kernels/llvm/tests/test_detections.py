"""Detections selected, against the float64 reference, on what can run here; keys against the order of their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import TARGETS, compiles, judge, problem_of
from tenonrt.contracts import Problem
from tenonrt_kernel_llvm.detections import DetectionsKernel
from tenonrt_kernel_llvm.select_boxes import SelectBoxesKernel
from tenonrt_kernel_llvm.target import NEON


def posed(images: int, priors: int, classes: int, known: bool = False, **attrs: Any) -> Problem:
    def define(network: tenonrt.Network) -> Any:
        codes = 1 if attrs.get("share_location", True) else classes
        location = network.add_input("location", (images, priors * codes * 4))
        scores = network.add_input("scores", (images, priors * classes))
        corners = np.sort(np.random.default_rng(0).random((priors, 2, 2)), 1).reshape(-1)
        values = np.stack([corners, np.full(4 * priors, 0.1)])[None].astype(np.float32)
        boxes = values if known else network.add_input("priors", (1, 2, priors * 4))
        rows, counts = network.add("SelectDetections", [location, scores, boxes], {"classes": classes, **attrs})
        network.mark_output(counts, "counts")
        return rows

    return problem_of(define)


# The same cases in every run: now and then two boxes drawn at random overlap so nearly as much as the threshold that
# float32 and the float64 reference decide differently, which is no fault of either.
REPEATED = settings(max_examples=6, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@REPEATED
@given(
    images=st.integers(1, 3), priors=st.integers(1, 70), classes=st.integers(1, 5), share=st.booleans(),
    background=st.integers(-1, 2), code=st.sampled_from(("corner", "center_size", "corner_size")),
    scaled=st.booleans(), confidence=st.sampled_from((-1.0, 0.2, 0.8, 2.0)), top=st.sampled_from((-1, 1, 7, 40)),
    keep=st.sampled_from((1, 9, 60)), threshold=st.sampled_from((0.1, 0.45, 1.0)), known=st.booleans(),
)  # fmt: skip
def test_detections_of_any_number(
    target: Any, images: int, priors: int, classes: int, share: bool, background: int, code: str, scaled: bool,
    confidence: float, top: int, keep: int, threshold: float, known: bool,
) -> None:  # fmt: skip
    if classes == 1 and background == 0:
        background = -1  # no class is left, which is refused
    problem = posed(
        images, priors, classes, known, share_location=share, background=background, code=code, scaled=scaled,
        confidence=confidence, top=top, keep=keep, threshold=threshold,
    )  # fmt: skip
    judge(DetectionsKernel(), problem, target)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@REPEATED
@given(
    images=st.integers(1, 2), count=st.integers(1, 70), classes=st.integers(1, 4), centered=st.booleans(),
    most=st.integers(1, 80), overlap=st.sampled_from((0.0, 0.3, 0.7)), least=st.sampled_from((None, 0.3, 2.0)),
)  # fmt: skip
def test_boxes_of_any_number(
    target: Any, images: int, count: int, classes: int, centered: bool, most: int, overlap: float, least: float | None
) -> None:
    def define(network: tenonrt.Network) -> Any:
        inputs = [network.add_input("boxes", (images, count, 4)), network.add_input("scores", (images, classes, count))]
        attrs = {"most": most, "overlap": overlap, "least": least, "centered": centered}
        chosen, counts = network.add("SelectBoxes", inputs, attrs)
        network.mark_output(counts, "counts")
        return chosen

    judge(SelectBoxesKernel(), problem_of(define), target)


def test_as_many_as_a_network_has() -> None:
    attrs = {"code": "center_size", "confidence": 0.01, "top": 100, "keep": 200, "threshold": 0.45}
    judge(DetectionsKernel(), posed(1, 1200, 6, True, **attrs), TARGETS[0])


@pytest.mark.parametrize(("attrs", "why"), [({"eta": 0.9}, "falls"), ({"background": 0, "classes": 1}, "no class")])
def test_what_is_refused(attrs: dict[str, Any], why: str) -> None:
    problem = posed(1, 5, attrs.pop("classes", 2), keep=3, **attrs)
    assert why in DetectionsKernel().supports(problem).why


def test_another_target_compiles() -> None:
    compiles(DetectionsKernel(), posed(1, 20, 3, keep=5, code="center_size"), NEON)
