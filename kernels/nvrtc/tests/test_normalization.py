"""Normalizations with what is around them: which regions they are, and their sources; what they compute needs a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from nvrtc_emulation import REGISTRY, judge, needs_compiler
from tenonrt.builder.regions import make_region, pose
from tenonrt.contracts import FLOAT8, LINEAR, Problem, Tactic, UnsupportedError
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.reductions.normalization import NormalizationKernel
from tenonrt_kernel_nvrtc.storage import FLOAT16, HALF, prelude

KERNEL = NormalizationKernel()


def problems(
    dtype: str = FLOAT8, summed: bool = True, read: bool = True, zero: int | None = None, rows: tuple[int, int] = (3, 5)
) -> list[Problem]:
    """Rows that are normalized and quantized. summed: with a residual. read: the real result is read by others too."""
    net = tenonrt.Network("rows", REGISTRY)
    x = net.add_input("x", (*rows, 768))
    if summed:
        x = net.add_elementwise(x, net.add_input("z", (*rows, 768)), operation="sum")
    y = net.add("LayerNormalization", [x, *[np.ones(768, np.float32)] * 2], {"axis": -1})[0]
    points = [] if zero is None else [np.array(zero, dtype)]
    net.mark_output(net.add("Quantize", [y, np.float32(0.02), *points], {"dtype": dtype})[0], "q")
    if read:
        net.mark_output(net.add_activation(y, function="relu"), "y")
    anchor = net.layers[0]
    return [pose(make_region(net.graph, region), "cuda", 1).problem for region in KERNEL.regions(net.graph, anchor)]


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("read", [False, True])
def test_what_quantizes_a_result_is_taken_along(summed: bool, read: bool) -> None:
    """And the real result is an output where others read it, in its own format."""
    alone, whole = problems(summed=summed, read=read)
    before = ("Elementwise",) * summed
    assert alone.kinds == (*before, "LayerNormalization")
    assert whole.kinds == (*before, "LayerNormalization", "Quantize")
    assert [whole.types[i].dtype for i in whole.outputs] == ["float32"] * read + [FLOAT8]
    assert KERNEL.supports(whole).ok
    tactics = KERNEL.offers(whole, [FLOAT16])
    for tactic in tactics:
        assert tactic.output_format(int(read)) == LINEAR
        assert tactic.inplace == tuple((0, k) for k in range(1 + summed)) * read
    assert {tactic.output_format(0) for tactic in tactics} == ({LINEAR, HALF} if read else {LINEAR})


def test_two_that_quantize_are_none() -> None:
    net = tenonrt.Network("rows", REGISTRY)
    y = net.add("LayerNormalization", [net.add_input("x", (3, 64)), np.ones(64, np.float32)], {"axis": -1})[0]
    for dtype in ("int8", FLOAT8):
        net.mark_output(net.add("Quantize", [y, np.float32(0.02)], {"dtype": dtype})[0], dtype)
    assert [len(region) for region in KERNEL.regions(net.graph, net.layers[0])] == [1]


@pytest.mark.parametrize(("dtype", "zero"), [("int8", None), ("uint8", 3), (FLOAT8, None)])
@pytest.mark.parametrize("read", [False, True])
def test_sources_compile_for_hopper(dtype: str, zero: int | None, read: bool) -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    problem = problems(dtype, read=read, zero=zero)[-1]
    for tactic in KERNEL.tactics(problem)[::3]:
        source, _ = KERNEL.generate(problem, tactic)
        assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")


def test_scales_of_slices_are_refused() -> None:
    net: Any = tenonrt.Network("rows", REGISTRY)
    y = net.add("LayerNormalization", [net.add_input("x", (3, 64)), np.ones(64, np.float32)], {"axis": -1})[0]
    net.mark_output(net.add("Quantize", [y, np.ones(64, np.float32)], {"dtype": "int8", "axis": 1})[0], "q")
    (*_, whole) = KERNEL.regions(net.graph, net.layers[0])
    assert not KERNEL.supports(pose(make_region(net.graph, whole), "cuda", 1).problem).ok


class Emulable(NormalizationKernel):
    """With what the processor lacks."""

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        source, info = super().generate(problem, tactic)
        return f"static float rsqrtf(float x) {{ return 1.f / sqrtf(x); }}\nstatic void begin() {{}}\n{source}", info


@needs_compiler
@pytest.mark.parametrize(("dtype", "zero"), [("int8", None), ("uint8", 3), (FLOAT8, None)])
@pytest.mark.parametrize("read", [False, True])
def test_rows_of_a_warp_are_what_the_layers_compute(dtype: str, zero: int | None, read: bool) -> None:
    """On the processor; neighbours of float8 are a sixteenth of the largest result apart at most."""
    problem = problems(dtype, read=read, zero=zero, rows=(2, 3))[-1]
    keys = [tactic.key for tactic in KERNEL.offers(problem, [FLOAT16]) if tactic.key.endswith(":32")]
    assert len(judge(Emulable(), problem, keys, allowed=40)) == len(keys) == 2
