"""Resize on the processor, judged as a build judges it, and beside onnxruntime."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import Emulated, judge, needs_compiler, problem_of
from tenonrt.contracts import Problem, Transformation
from tenonrt_kernel_nvrtc.images.resize import ResizeKernel
from tenonrt_kernel_nvrtc.storage import NARROW, Narrow

pytestmark = needs_compiler
_PLAIN = sorted(set(get_args(Transformation)) - {"tf_crop_and_resize"})


def resize(shape: tuple[int, ...], *rest: Any, dtype: str = "float32", **attrs: Any) -> Problem:
    """A resize by ``rest``: a region, scales, sizes."""

    def define(net: tenonrt.Network) -> Any:
        return net.add("Resize", [net.add_input("x", shape, dtype), *rest], attrs)[0]

    return problem_of(define)


def sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@settings(max_examples=6)
@given(
    mode=st.sampled_from(["nearest", "linear", "cubic"]), transformation=st.sampled_from(_PLAIN),
    rounding=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 19), st.integers(1, 7), st.integers(1, 8)),
    target=st.tuples(st.integers(1, 12), st.integers(1, 12)), excluded=st.booleans(), stored=st.sampled_from(NARROW),
)  # fmt: skip
def test_images_of_any_size(
    mode: str,
    transformation: str,
    rounding: str,
    shape: tuple[int, ...],
    target: tuple[int, int],
    excluded: bool,
    stored: Narrow,
) -> None:
    """In slices of larger tensors too, where channels are innermost."""
    attrs = {"mode": mode, "coordinate_transformation": transformation, "nearest_rounding": rounding}
    problem = resize(shape, None, None, sizes(*shape[:2], *target), exclude_outside=excluded, **attrs)
    tried = judge(ResizeKernel(), problem, stored=stored.dtype)
    assert [key.split()[0] for key in tried] == ["linear", "half", "channels"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_what_lies_outside_of_the_region_is_a_number(mode: str) -> None:
    region = scales(0.4, -0.2, 0.9, 1.2)
    attrs = {"mode": mode, "coordinate_transformation": "tf_crop_and_resize", "axes": (2, 3), "extrapolation": 10.0}
    judge(ResizeKernel(), resize((2, 9, 5, 4), region, None, sizes(4, 6), **attrs))


def test_filters_are_stretched_over_axes_that_shrink() -> None:
    for mode in ("linear", "cubic"):
        problem = resize((1, 3, 9, 8), None, scales(1, 1, 0.6, 0.5), mode=mode, antialias=True)
        judge(ResizeKernel(), problem)


def test_any_axes_and_element_types() -> None:
    assert judge(ResizeKernel(), resize((2, 3), None, scales(2, 2), dtype="int8")) == ["linear"]
    assert judge(ResizeKernel(), resize((2, 3, 4, 8), None, scales(1, 2, 1, 1))) == ["linear", "half"]
    judge(ResizeKernel(), resize((2, 8, 3), None, None, sizes(9), axes=(-1,), mode="linear", keep_aspect="not_larger"))
    judge(ResizeKernel(), resize((2, 16, 4, 4), None, scales(1, 1, 2, 2), dtype="int8"))


def test_what_it_does_not_take() -> None:
    kernel = ResizeKernel()
    assert not kernel.supports(resize((2, 3), None, scales(2, 2), dtype="int32", mode="linear")).ok
    wide = resize((1, 1, 90, 90), None, scales(1, 1, 0.1, 0.1), mode="linear", antialias=True)
    assert "make one" in kernel.supports(wide).why


@pytest.mark.parametrize("attrs", [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
])  # fmt: skip
def test_it_computes_what_onnxruntime_does(attrs: dict[str, str]) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, x = onnx.helper, np.random.default_rng(0).standard_normal((2, 16, 5, 7)).astype(np.float32)
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], **attrs)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", 1, x.shape)], [helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(scales(1, 1, 2, 2.5), "s")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    own = {"mode": attrs["mode"], "coordinate_transformation": attrs["coordinate_transformation_mode"]}
    own |= {"nearest_rounding": attrs["nearest_mode"]} if "nearest_mode" in attrs else {}
    problem, kernel = resize(x.shape, None, scales(1, 1, 2, 2.5), **own), Emulated(ResizeKernel())
    code = kernel.compile(problem, kernel.kernel.tactics(problem)[0])
    found = np.full_like(expected, np.nan)
    kernel.bind(code, kernel.pack(code, None)).launch([x], [found], None, None)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
