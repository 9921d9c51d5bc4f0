"""Kernels whose threads work on their own, compiled for the processor and judged as a build judges them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from nvrtc_emulation import REGISTRY, judge, needs_compiler, problem_of
from tenonrt.contracts import FLOAT8, LINEAR, NHWC, Format, Problem, ProblemInput, ProblemLayer, TensorType
from tenonrt.graph.attributes import make_attrs
from tenonrt_kernel_nvrtc import kernel
from tenonrt_kernel_nvrtc.depthwise import DepthwiseKernel
from tenonrt_kernel_nvrtc.gather import GatherKernel
from tenonrt_kernel_nvrtc.lrn import LrnKernel
from tenonrt_kernel_nvrtc.movement import MovementKernel
from tenonrt_kernel_nvrtc.pointwise import PointwiseKernel
from tenonrt_kernel_nvrtc.pooling import PoolingKernel
from tenonrt_kernel_nvrtc.storage import NARROW

pytestmark = needs_compiler
FORMATS = (LINEAR, NHWC, *(f for n in NARROW for f in (n.rows, n.channels_4, n.channels_8)))
narrowly = pytest.mark.parametrize("stored", [n.dtype for n in NARROW])
any_narrow = st.sampled_from([n.dtype for n in NARROW])


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def reformat(shape: tuple[int, ...], source: Format, target: Format) -> Problem:
    layer_type = REGISTRY.layer_type("Reformat")
    plain = {"source": msgspec.to_builtins(source), "target": msgspec.to_builtins(target)}
    attrs, type = make_attrs(layer_type, "Reformat", "x", plain), TensorType(shape)
    layer = ProblemLayer("Reformat", attrs, (0,), (1,))
    return Problem((layer,), (ProblemInput("activation"),), (type, type), (1,), "cuda")


@settings(max_examples=8)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 6), st.integers(1, 9)),
    st.lists(st.sampled_from(FORMATS), min_size=2, max_size=2, unique=True),
)
def test_reformats_of_any_shape(shape: tuple[int, ...], formats: list[Format]) -> None:
    """In slices of larger tensors too: their pixels lie further apart, whichever axis the result has innermost."""
    judge(MovementKernel(), reformat(shape, *formats))


def test_a_reformat_reads_slices_where_the_result_has_another_innermost_axis() -> None:
    for narrow in NARROW:
        problem = reformat((1, 64, 8, 8), narrow.channels_8, narrow.rows)
        assert judge(MovementKernel(), problem, stored=narrow.dtype) == ["copy"]


def test_reformats_between_the_narrow_types() -> None:
    """Where layers in bfloat16 stand between others in half precision; the coarser of the two is the precision."""
    for source, target in ((NARROW[0].rows, NARROW[1].channels_8), (NARROW[1].channels_8, NARROW[0].rows)):
        problem = reformat((2, 13, 5, 3), source, target)
        assert judge(MovementKernel(), problem, stored="bfloat16") == ["copy"]
        assert {tactic.precision for tactic in MovementKernel().tactics(problem)} == {"bfloat16"}


@settings(max_examples=4)
@given(st.integers(1, 2), st.integers(1, 19), st.integers(1, 7), st.integers(1, 8), any_narrow)
def test_pointwise_chains_of_any_shape(n: int, c: int, h: int, w: int, stored: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x, y = net.add_input("x", (n, c, h, w)), net.add_input("y", (n, c, h, w))
        z = net.add_elementwise(x, y, operation="sum")
        z = net.add_elementwise(z, weights(c, 1, 1), operation="prod")
        return net.add_activation(z, function="swish")

    assert len(judge(PointwiseKernel(), problem_of(define), stored=stored)) == 3


@narrowly
def test_operands_are_broadcast(stored: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x, gate = net.add_input("x", (2, 12, 5, 3)), net.add_input("gate", (2, 12, 1, 1))
        return net.add_elementwise(x, gate, operation="prod")

    judge(PointwiseKernel(), problem_of(define), stored=stored)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_tensors_that_are_narrow_in_the_network(dtype: str) -> None:
    """To single precision and back, in which they are computed."""

    def define(net: tenonrt.Network) -> Any:
        x, y = net.add_input("x", (2, 11, 5), dtype), net.add_input("y", (2, 11, 5))
        wide = net.add_elementwise(net.add("Cast", [x], {"to": "float32"})[0], y, operation="sum")
        return net.add("Cast", [wide], {"to": dtype})[0]

    assert "linear" in judge(PointwiseKernel(), problem_of(define), stored=dtype)


@narrowly
@pytest.mark.parametrize("function", ["max", "average"])
def test_pooling_in_both_formats(function: str, stored: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, 11, 9, 7))
        sizes = {"window": (3, 3), "stride": (2, 2), "pre_padding": (1, 1), "post_padding": (1, 1)}
        return net.add_pooling(x, function=function, ceil=True, **sizes)

    assert [key.split()[0] for key in judge(PoolingKernel(), problem_of(define), stored=stored)] == ["nhwc", "nchw"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", FLOAT8])
def test_maxima_of_bytes(dtype: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, 16, 9, 7), dtype)
        sizes = {"window": (3, 3), "stride": (2, 2), "pre_padding": (1, 1), "post_padding": (1, 1)}
        return net.add_pooling(x, function="max", **sizes)

    assert judge(PoolingKernel(), problem_of(define)) == ["nhwc"]


@pytest.mark.parametrize(
    ("dtype", "zero"), [("int8", None), ("uint8", None), ("int8", 3), ("uint8", 3), (FLOAT8, None)]
)
def test_bytes_and_real_numbers(dtype: str, zero: int | None) -> None:
    """Both ways, with layers between, in rows and with channels innermost."""
    points = [] if zero is None else [np.array(zero, dtype)]

    def define(net: tenonrt.Network) -> Any:
        x, y = net.add_input("x", (2, 11, 5, 3), dtype), net.add_input("y", (2, 11, 5, 3))
        real = net.add("Dequantize", [x, np.float32(0.25), *points], {})[0]
        real = net.add_activation(net.add_elementwise(real, y, operation="sum"), function="relu")
        return net.add("Quantize", [real, np.float32(0.5), *points], {"dtype": dtype})[0]

    assert len(judge(PointwiseKernel(), problem_of(define))) == 3


def test_what_is_dequantized_again_has_been_rounded_in_registers() -> None:
    def define(net: tenonrt.Network) -> Any:
        stored = net.add("Quantize", [net.add_input("x", (3, 40)), np.float32(0.5)], {"dtype": FLOAT8})[0]
        return net.add("Dequantize", [stored, np.float32(0.5)], {})[0]

    assert len(judge(PointwiseKernel(), problem_of(define))) == 2


def test_narrow_floats_are_not_computed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor quantized without saturating, nor known to GPUs before Ada."""

    def quantized(**attrs: Any) -> Any:
        attrs["dtype"] = FLOAT8
        return lambda net: net.add("Quantize", [net.add_input("x", (4,)), np.float32(0.5)], attrs)[0]

    def smallest(net: tenonrt.Network) -> Any:
        x, y = (net.add_input(name, (4,), FLOAT8) for name in "xy")
        return net.add_elementwise(x, y, operation="min")

    assert PointwiseKernel().supports(problem_of(quantized())).ok
    assert not PointwiseKernel().supports(problem_of(quantized(saturate=False))).ok
    assert f"Elementwise of {FLOAT8}" in PointwiseKernel().supports(problem_of(smallest)).why
    monkeypatch.setattr(kernel, "architecture", lambda: "sm_80")
    assert "sm_80" in PointwiseKernel().supports(problem_of(quantized())).why


@pytest.mark.parametrize(
    ("stride", "dilation", "stored"), [(1, 1, "float16"), (2, 1, "float16"), (1, 2, "float16"), (2, 1, "bfloat16")]
)
def test_depthwise_convolution_with_its_tail(stride: int, dilation: int, stored: str) -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, 13, 9, 10))
        sizes = {"stride": (stride,) * 2, "dilation": (dilation,) * 2, "pre_padding": (1, 1), "post_padding": (1, 1)}
        y = net.add_convolution(x, weights(13, 1, 3, 3), weights(13), groups=13, **sizes)
        return net.add_activation(y, function="clip", alpha=0.0, beta=6.0)

    judge(DepthwiseKernel(), problem_of(define), ["1x64", "4x64"], stored)


@narrowly
def test_concatenation_and_transposition(stored: str) -> None:
    def concatenated(net: tenonrt.Network) -> Any:
        parts = [net.add_input(f"x{c}", (2, c, 3, 5)) for c in (8, 12, 3)]
        return net.add_concatenation(*parts, axis=1)

    def transposed(net: tenonrt.Network) -> Any:
        return net.add("Transpose", [net.add_input("x", (2, 3, 8, 16))], {"permutation": (0, 2, 1, 3)})[0]

    judge(MovementKernel(), problem_of(concatenated), stored=stored)
    judge(MovementKernel(), problem_of(transposed), stored=stored)


@narrowly
def test_gathering_by_constants_and_by_inputs(stored: str) -> None:
    def rows(net: tenonrt.Network) -> Any:
        return net.add("Gather", [weights(30, 24), net.add_input("i", (2, 7), "int64")], {"axis": 0})[0]

    def pairs(net: tenonrt.Network) -> Any:
        indices = np.stack(np.meshgrid(range(2), range(5), indexing="ij"), -1).astype(np.int64)
        return net.add("GatherND", [net.add_input("x", (2, 5, 8)), indices], {})[0]

    judge(GatherKernel(), problem_of(rows), stored=stored)
    judge(GatherKernel(), problem_of(pairs), stored=stored)


@pytest.mark.parametrize(("window", "stored"), [(1, "float16"), (4, "float16"), (5, "float16"), (4, "bfloat16")])
def test_local_response_normalization(window: int, stored: str) -> None:
    """The channels no multiple of 8."""
    attrs = {"window": window, "alpha": 0.05, "beta": 0.75, "k": 2.0}
    problem = problem_of(lambda net: net.add("LRN", [net.add_input("x", (2, 13, 4, 5))], attrs)[0])
    judge(LrnKernel(), problem, stored=stored)
