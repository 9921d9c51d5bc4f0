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
from tenonrt_kernel_nvrtc.gather import GatherKernel
from tenonrt_kernel_nvrtc.images.depthwise import DepthwiseKernel
from tenonrt_kernel_nvrtc.images.lrn import LrnKernel
from tenonrt_kernel_nvrtc.images.pooling import PoolingKernel
from tenonrt_kernel_nvrtc.images.transposition import TranspositionKernel
from tenonrt_kernel_nvrtc.movement import MovementKernel
from tenonrt_kernel_nvrtc.pointwise import PointwiseKernel
from tenonrt_kernel_nvrtc.reductions.softmax_columns import SoftmaxColumnsKernel
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

    images = ["nhwc"] if function == "average" else ["nhwc:1", "nhwc:2", "nhwc:4"]
    tried = judge(PoolingKernel(), problem_of(define), stored=stored)
    assert [key.split()[0] for key in tried] == [*images, "nchw"]


def test_maxima_of_small_floats() -> None:
    def define(net: tenonrt.Network) -> Any:
        x = net.add_input("x", (2, 16, 9, 7), FLOAT8)
        sizes = {"window": (3, 3), "stride": (2, 2), "pre_padding": (1, 1), "post_padding": (1, 1)}
        return net.add_pooling(x, function="max", **sizes)

    assert judge(PoolingKernel(), problem_of(define)) == ["nhwc"]


@settings(max_examples=5)
@given(
    dtype=st.sampled_from(["int8", "uint8", "float32"]), channels=st.sampled_from([8, 16, 24, 32]),
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)), window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2), padding=st.integers(0, 2), dilation=st.integers(1, 2), stored=any_narrow,
)  # fmt: skip
def test_maxima_of_any_window(
    dtype: str, channels: int, size: Any, window: Any, stride: int, padding: int, dilation: int, stored: str
) -> None:
    """They reach over the edges of the image; with dilation an edge may be between the elements of one."""
    padding = min(padding, *(size - 1 for size in window))

    def define(net: tenonrt.Network) -> Any:
        sizes = {"window": window, "stride": (stride,) * 2, "dilation": (dilation,) * 2}
        pads = {"pre_padding": (padding,) * 2, "post_padding": (0, padding)}
        return net.add_pooling(net.add_input("x", (2, channels, *size), dtype), function="max", **sizes, **pads)

    judge(PoolingKernel(), problem_of(define), ["nhwc:1", "nhwc:2", "nhwc:4"], stored)


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

    keys = ["1x64", "4x64", "2x64x2", "2x64x4"]
    assert [key.split(" ")[0] for key in judge(DepthwiseKernel(), problem_of(define), keys, stored)] == keys


def test_large_windows_leave_no_registers_for_several_rows() -> None:
    def define(net: tenonrt.Network) -> Any:
        return net.add_convolution(net.add_input("x", (1, 8, 9, 9)), weights(8, 1, 5, 5), groups=8)

    assert not [t.key for t in DepthwiseKernel().tactics(problem_of(define)) if t.key.count("x") > 1]


@narrowly
def test_concatenation_and_transposition(stored: str) -> None:
    def concatenated(net: tenonrt.Network) -> Any:
        parts = [net.add_input(f"x{c}", (2, c, 3, 5)) for c in (8, 12, 3)]
        return net.add_concatenation(*parts, axis=1)

    def transposed(net: tenonrt.Network) -> Any:
        return net.add("Transpose", [net.add_input("x", (2, 3, 8, 16))], {"permutation": (0, 2, 1, 3)})[0]

    judge(MovementKernel(), problem_of(concatenated), stored=stored)
    judge(MovementKernel(), problem_of(transposed), stored=stored)


@settings(max_examples=4)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=2, max_size=3), axis=st.integers(0, 3),
    rest=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6)),
    dtype=st.sampled_from(["float32", "int64"]), stored=any_narrow,
)  # fmt: skip
def test_splits_of_any_shape(sizes: list[int], axis: int, rest: tuple[int, ...], dtype: str, stored: str) -> None:
    """Between slices of larger tensors too, where channels are cut that are innermost."""
    shape = (*rest[:axis], sum(sizes), *rest[axis:])

    def define(net: tenonrt.Network) -> Any:
        return net.add("Split", [net.add_input("x", shape, dtype), np.array(sizes, np.int64)], {"axis": axis})

    judge(MovementKernel(), problem_of(define), stored=stored)


def test_joined_images_may_be_slices() -> None:
    def define(net: tenonrt.Network) -> Any:
        return net.add_concatenation(*(net.add_input(f"x{c}", (2, c, 3, 5)) for c in (8, 16)), axis=1)

    tactic = MovementKernel().tactics(problem_of(define))[-1]
    assert (tactic.reads_strided, tactic.writes_strided) == ((0, 1), (0,))


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


@settings(max_examples=3)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 4), st.sampled_from([1, 2, 4, 6])),
    axis=st.integers(0, 2), stored=any_narrow,
)  # fmt: skip
def test_softmax_along_outer_axes(shape: tuple[int, ...], axis: int, stored: str) -> None:
    tried = judge(SoftmaxColumnsKernel(), softmax(shape, axis), stored=stored)
    assert any("NHWC8c" in key for key in tried) == (axis == 1)


def test_softmax_of_columns_too_long_for_registers() -> None:
    judge(SoftmaxColumnsKernel(), softmax((2, 150, 6), 1))


def softmax(shape: tuple[int, ...], axis: int) -> Problem:
    return problem_of(lambda net: net.add("Softmax", [net.add_input("x", shape)], {"axis": axis})[0])


@settings(max_examples=5)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 3), st.sampled_from([8, 16])),
    narrow=st.sampled_from(NARROW), wide=st.booleans(), outwards=st.booleans(),
)  # fmt: skip
def test_transpositions_of_any_image(shape: tuple[int, ...], narrow: Any, wide: bool, outwards: bool) -> None:
    """In slices of wider images too."""
    rows = LINEAR if wide else narrow.rows
    formats = (narrow.channels_8, rows) if outwards else (rows, narrow.channels_8)
    judge(TranspositionKernel(), reformat(shape, *formats), stored=narrow.dtype)


@pytest.mark.parametrize("function", ["swish", "sigmoid"])
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_activations_of_narrow_floats_have_their_parameters(function: str, alpha: float | None) -> None:
    """They are computed otherwise than in single precision."""
    given = {} if alpha is None or function == "sigmoid" else {"alpha": alpha}
    problem = problem_of(lambda net: net.add_activation(net.add_input("x", (2, 8, 3, 3)), function=function, **given))
    judge(PointwiseKernel(), problem)
