"""Quantized regions on bytes of the whole range: every engine exact, every form of region, odd sizes, borders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from llvm_judging import REGISTRY, TARGETS, compiles, judge, problem_of
from tenonrt.builder.sampling import reference_outputs
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Problem
from tenonrt.plugins.registry import using
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.pointwise import PointwiseKernel
from tenonrt_kernel_llvm.quantized import contraction as contraction_module
from tenonrt_kernel_llvm.quantized.averaging import QuantizedAverage
from tenonrt_kernel_llvm.quantized.contraction import QuantizedContraction
from tenonrt_kernel_llvm.quantized.depthwise import QuantizedDepthwise
from tenonrt_kernel_llvm.quantized.engines import AMX, ENGINES, VNNI, WIDENING, Engine, depth_of, engines_for
from tenonrt_kernel_llvm.quantized.layouts import ByteLayoutKernel
from tenonrt_kernel_llvm.quantized.pooling import BytePooling
from tenonrt_kernel_llvm.target import AVX2, AVX512, host_has

DTYPES = ("uint8", "int8")
BYTE_TARGETS = [target for target in TARGETS if target in (AVX512, AVX2)]
RUNNABLE = [
    engine
    for engine in ENGINES.values()
    if any(target.name == engine.target for target in BYTE_TARGETS)
    and (engine is WIDENING or all(host_has(f.lstrip("+")) for f in engine.extensions.split(",")))
]
pytestmark = pytest.mark.skipif(not BYTE_TARGETS, reason="no engine for bytes runs on this processor")


def full_range(problem: Problem, seed: int = 0) -> Sample:
    """Inputs and weights over all of their values, zero points in the middle, results spread over theirs."""
    rng, layer_types = np.random.default_rng(seed), REGISTRY.layer_type
    arrays: dict[int, np.ndarray] = {}
    for number in range(len(problem.inputs)):
        type = problem.types[number]
        shape = type.concrete({})
        if type.dtype in DTYPES and shape:
            low, high = (0, 256) if type.dtype == "uint8" else (-128, 128)
            arrays[number] = rng.integers(low, high, shape).astype(type.dtype)
        elif type.dtype in DTYPES:
            arrays[number] = np.array(131 if type.dtype == "uint8" else -3, type.dtype)
        else:
            arrays[number] = rng.uniform(0.5, 1.0, shape).astype(np.float32)
    for layer in problem.layers:
        if layer.kind == "Saturate":  # narrow enough that some numbers are outside
            real = reference_outputs(_until(problem, layer.inputs[0]), layer_types, _listed(arrays))[0]
            arrays[layer.inputs[1]] = np.float32(np.abs(real).std() / 100)
    for layer in problem.layers:
        if layer.kind == "Quantize":  # wide enough that few results saturate
            real = reference_outputs(_until(problem, layer.inputs[0]), layer_types, _listed(arrays))[0]
            arrays[layer.inputs[1]] = np.float32(max(np.abs(real).max(), 1e-3) / 140).reshape(
                arrays[layer.inputs[1]].shape
            )
    inputs = _listed(arrays)
    return Sample(problem, inputs, reference_outputs(problem, layer_types, inputs), {})


def _listed(arrays: dict[int, np.ndarray]) -> list[np.ndarray]:
    return [arrays[number] for number in range(len(arrays))]


def _until(problem: Problem, number: int) -> Problem:
    """The same problem with another result."""
    import msgspec

    return msgspec.structs.replace(problem, outputs=(number,))


def judge_full_range(kernel: LlvmKernel, problem: Problem, target: Any) -> list[str]:
    sample = full_range(problem)
    if problem.types[problem.outputs[0]].dtype in DTYPES:
        assert len(np.unique(sample.expected[0])) > min(8, sample.expected[0].size // 4)  # a result that tells
    with pytest.MonkeyPatch.context() as patch, using(REGISTRY):
        patch.setenv("TENONRT_LLVM_TARGET", target.name)
        assert kernel.supports(problem).ok, kernel.supports(problem).why
        for tactic in kernel.tactics(problem):
            verdict, _ = try_tactic(kernel, problem, tactic, [sample], REGISTRY.layer_type, REGISTRY.device("cpu"))
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
        return [tactic.key for tactic in kernel.tactics(problem)]


@pytest.fixture(params=RUNNABLE, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each way to multiply that this processor has."""
    monkeypatch.setattr(contraction_module, "engines_for", lambda target: [request.param])
    chosen: Engine = request.param
    return chosen


def target_of(engine: Engine) -> Any:
    return AVX512 if engine.target == "avx512" else AVX2


def dequantized(network: tenonrt.Network, name: str, shape: tuple[int, ...], dtype: str, zero: bool = True) -> Any:
    return network.add_dequantize(
        network.add_input(name, shape, dtype), np.float32(1), np.array(0, dtype) if zero else None
    )


def weighted(network: tenonrt.Network, shape: tuple[int, ...], axis: int = 0, per_channel: bool = True) -> Any:
    scale = np.ones(shape[axis], np.float32) if per_channel else np.float32(1)
    return network.add_dequantize(np.zeros(shape, np.int8), scale, None, axis=axis)


def convolution(
    sizes: tuple[Any, int, int, int, int], dtype: str = "uint8", form: str = "relu-quantize", **attrs: Any
) -> Problem:
    """sizes: batch, channels, side, outputs, window. form: what follows, up to a sum that is quantized again."""
    batch, channels, side, outputs, window = sizes

    def define(network: tenonrt.Network) -> Any:
        x = dequantized(network, "x", (batch, channels, side, side), dtype)
        w = weighted(network, (outputs, channels // attrs.get("groups", 1), window, window))
        y = network.add_convolution(x, w, np.ones(outputs, np.float32), **attrs)
        for word in form.split("-"):
            y = after(network, word, y, dtype)
        return y

    return problem_of(define)


def after(network: tenonrt.Network, word: str, y: Any, dtype: str) -> Any:
    zero = np.array(0, dtype)
    if word == "relu":
        return network.add_activation(y, function="relu")
    if word == "clip":
        return network.add_activation(y, function="clip", alpha=-1.0, beta=900.0)
    if word == "quantize":
        return network.add_quantize(y, np.float32(1), zero, dtype=dtype)
    if word == "saturate":
        return network.add_saturate(y, np.float32(1), zero, dtype=dtype)
    if word == "again":
        return network.add_dequantize(y, np.float32(1), zero)
    if word == "sum":
        return network.add_elementwise(y, dequantized(network, "other", tuple(y.type.shape), dtype), operation="sum")
    return y


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_convolutions_of_any_size(data: st.DataObject) -> None:
    channels, outputs = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    window = data.draw(st.sampled_from([1, 2, 3, 5]))
    side = data.draw(st.integers(window, 11))
    padding = data.draw(st.integers(0, window // 2))
    stride = data.draw(st.integers(1, 2))
    dtype = data.draw(st.sampled_from(DTYPES))
    problem = convolution(
        (data.draw(st.integers(1, 2)), channels, side, outputs, window), dtype,
        pre_padding=(padding, 0), post_padding=(padding, padding), stride=(stride, 1),
    )  # fmt: skip
    judge_full_range(QuantizedContraction(), problem, data.draw(st.sampled_from(BYTE_TARGETS)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "form",
    [
        "", "relu", "quantize", "clip-quantize", "sum-relu-quantize", "quantize-again-sum-relu-quantize",
        "saturate-sum-relu-quantize", "saturate-relu-quantize", "relu-saturate-sum-quantize",
    ],
)  # fmt: skip
def test_forms_of_regions(form: str, dtype: str, engine: Engine) -> None:
    problem = convolution((1, 36, 6, 40, 3), dtype, form, pre_padding=(1, 1), post_padding=(1, 1))
    judge_full_range(QuantizedContraction(), problem, target_of(engine))


def test_images_whose_pixels_lie_as_they_are_wanted(engine: Engine) -> None:
    keys = judge_full_range(QuantizedContraction(), convolution((2, 64, 8, 48, 1)), target_of(engine))
    assert all("direct" in key for key in keys)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "outputs", "groups"), [(64, 64, 16), (32, 128, 2), (96, 32, 4), (24, 96, 3)])
def test_groups_of_channels(channels: int, outputs: int, groups: int, dtype: str, engine: Engine) -> None:
    problem = convolution(
        (2, channels, 7, outputs, 3), dtype, "saturate-sum-relu-quantize", groups=groups, stride=(2, 1),
        pre_padding=(1, 0), post_padding=(1, 1),
    )  # fmt: skip
    judge_full_range(QuantizedContraction(), problem, target_of(engine))


def test_groups_of_pixels_and_of_dilated_windows(engine: Engine) -> None:
    judge_full_range(QuantizedContraction(), convolution((1, 64, 6, 64, 1), groups=8), target_of(engine))
    problem = convolution((1, 64, 8, 64, 3), groups=8, dilation=(2, 2), pre_padding=(2, 2), post_padding=(2, 2))
    judge_full_range(QuantizedContraction(), problem, target_of(engine))


def test_dilated_windows(engine: Engine) -> None:
    problem = convolution((1, 8, 9, 33, 3), pre_padding=(2, 2), post_padding=(2, 2), dilation=(2, 2))
    judge_full_range(QuantizedContraction(), problem, target_of(engine))


def test_every_tactic_compiles_where_the_batch_is_known_at_run_time(engine: Engine) -> None:
    batch = tenonrt.symbol("N", 1, 8)
    static, symbolic = (convolution((n, 24, 4, 64, 3), pre_padding=(1, 1), post_padding=(1, 1)) for n in (2, batch))
    kernel = QuantizedContraction()
    assert any("shared" in tactic.key for tactic in kernel.tactics(static))
    assert kernel.supports(symbolic).runtime_symbols == "all"
    compiles(kernel, symbolic, target_of(engine))


@pytest.mark.parametrize("kind", ["FullyConnected", "MatrixMultiply"])
@pytest.mark.parametrize("rows", [1, 5, 37])
def test_products_with_weights(kind: str, rows: int, engine: Engine) -> None:
    def define(network: tenonrt.Network) -> Any:
        x = dequantized(network, "x", (rows, 70), "int8")
        if kind == "FullyConnected":
            y = network.add_fully_connected(x, weighted(network, (45, 70)), np.ones(45, np.float32))
        else:
            y = network.add_matrix_multiply(x, weighted(network, (70, 45), axis=1))
        return network.add_quantize(y, np.float32(1), None, dtype="int8")

    judge_full_range(QuantizedContraction(), problem_of(define), target_of(engine))


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("kind", ["FullyConnected", "MatrixMultiply"])
def test_products_of_four_axes_are_of_rows(kind: str, quantized: bool, engine: Engine) -> None:
    """Not of images: what is multiplied is the last axis, as it lies."""

    def define(network: tenonrt.Network) -> Any:
        x = dequantized(network, "x", (1, 3, 4, 20), "int8")
        if kind == "FullyConnected":
            y = network.add_fully_connected(x, weighted(network, (8, 20)))
        else:
            y = network.add_matrix_multiply(x, weighted(network, (20, 8), axis=1))
        return network.add_quantize(y, np.float32(1), None, dtype="int8") if quantized else y

    judge_full_range(QuantizedContraction(), problem_of(define), target_of(engine))


def test_nothing_saturates_on_the_way(engine: Engine) -> None:
    """255 * 127 twice is more than 16 bits hold, which is where vpmaddubsw would stop."""
    problem = convolution((1, 64, 4, 32, 1), "uint8", "")
    sample = full_range(problem)
    inputs = list(sample.inputs)
    for number, array in enumerate(inputs):
        if array.dtype in (np.uint8, np.int8) and array.ndim:
            inputs[number] = np.full_like(array, 255 if array.dtype == np.uint8 else 127)
    extreme = replace(sample, inputs=inputs, expected=reference_outputs(problem, REGISTRY.layer_type, inputs))
    with using(REGISTRY), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENONRT_LLVM_TARGET", target_of(engine).name)
        kernel = QuantizedContraction()
        for tactic in kernel.tactics(problem):
            verdict, _ = try_tactic(kernel, problem, tactic, [extreme], REGISTRY.layer_type, REGISTRY.device("cpu"))
            assert verdict.ok, f"{tactic.key}: {verdict.why}"


@pytest.mark.parametrize("target", BYTE_TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "stride"), [(24, 1), (32, 2), (5, 1)])
def test_depthwise(channels: int, stride: int, dtype: str, target: Any) -> None:
    problem = convolution(
        (2, channels, 9, channels, 3), dtype, "clip-quantize", groups=channels, stride=(stride, stride),
        pre_padding=(1, 1), post_padding=(1, 1),
    )  # fmt: skip
    judge_full_range(QuantizedDepthwise(), problem, target)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 70), st.integers(3, 9), st.integers(1, 2), st.sampled_from(DTYPES))
def test_maxima_of_windows(channels: int, side: int, stride: int, dtype: str) -> None:
    def define(network: tenonrt.Network) -> Any:
        x = network.add_input("x", (2, channels, side, side), dtype)
        return network.add_pooling(
            x, function="max", window=(3, 3), stride=(stride, stride), pre_padding=(1, 1), post_padding=(1, 1)
        )

    judge_full_range(BytePooling(), problem_of(define), BYTE_TARGETS[0])


@settings(max_examples=16, deadline=None)
@given(
    st.integers(1, 40), st.integers(2, 9), st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.booleans(),
    st.sampled_from(["quantize", "relu-quantize", ""]), st.sampled_from(DTYPES),
)  # fmt: skip
def test_averages_of_windows(
    channels: int, side: int, window: int, stride: int, padding: int, counted: bool, form: str, dtype: str
) -> None:
    window = min(window, side)
    padding = min(padding, window - 1)

    def define(network: tenonrt.Network) -> Any:
        y = network.add_pooling(
            dequantized(network, "x", (2, channels, side, side + 1), dtype), function="average",
            window=(window, window), stride=(stride, 1), pre_padding=(padding, 0),
            post_padding=(0, padding), count_includes_padding=counted, ceil=counted,
        )  # fmt: skip
        for word in filter(None, form.split("-")):
            y = after(network, word, y, dtype)
        return y

    for target in BYTE_TARGETS:
        judge_full_range(QuantizedAverage(), problem_of(define), target)


@pytest.mark.parametrize("target", BYTE_TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("form", ["quantize", ""])
def test_averages_of_images(form: str, keep: bool, dtype: str, target: Any) -> None:
    def define(network: tenonrt.Network) -> Any:
        x = dequantized(network, "x", (2, 39, 7, 5), dtype)
        y = network.add_reduce(x, operation="mean", axes=(2, 3), keep_dims=keep)
        return after(network, form, y, dtype)

    judge_full_range(QuantizedAverage(), problem_of(define), target)


def layer(kind: str, dtype: str, zero: bool, shape: tuple[int, ...]) -> Callable[[tenonrt.Network], Any]:
    def define(network: tenonrt.Network) -> Any:
        offset = np.array(0, dtype) if zero else None
        if kind == "Quantize":
            return network.add_quantize(network.add_input("x", shape), np.float32(1), offset, dtype=dtype)
        if kind == "Dequantize":
            return network.add_dequantize(network.add_input("x", shape, dtype), np.float32(1), offset)
        formats = [{}, {"order": (0, 2, 3, 1)}]
        source, target = formats if zero else formats[::-1]
        return network.add_reformat(network.add_input("x", shape, dtype), source=source, target=target)

    return define


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["Quantize", "Dequantize", "Reformat"]), st.sampled_from(DTYPES), st.booleans(),
    st.integers(1, 40), st.integers(1, 9),
)  # fmt: skip
def test_layouts(kind: str, dtype: str, zero: bool, channels: int, side: int) -> None:
    problem = problem_of(layer(kind, dtype, zero, (2, channels, side, side)))
    for target in BYTE_TARGETS:
        judge(ByteLayoutKernel(), problem, target)


@pytest.mark.parametrize("target", BYTE_TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("kind", ["Quantize", "Reformat"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_few_channels_become_pixels(channels: int, kind: str, target: Any) -> None:
    judge(ByteLayoutKernel(), problem_of(layer(kind, "uint8", True, (2, channels, 5, 9))), target)


@pytest.mark.parametrize("target", BYTE_TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("shape", [(2, 5, 3, 3), (3, 50)])
def test_sums_of_bytes_in_one_pass(shape: tuple[int, ...], target: Any) -> None:
    def define(network: tenonrt.Network) -> Any:
        y = network.add_elementwise(
            dequantized(network, "a", shape, "int8"), dequantized(network, "b", shape, "int8"), operation="sum"
        )
        return network.add_quantize(network.add_activation(y, function="relu"), np.float32(1), None, dtype="int8")

    assert len(judge(PointwiseKernel(), problem_of(define), target)) == len(shape) - 2 or len(shape) == 2


def test_scales_do_not_tell_problems_apart() -> None:
    def scaled(scale: float) -> Problem:
        return problem_of(lambda n: n.add_quantize(n.add_input("x", (4, 4)), np.float32(scale), None, dtype="int8"))

    assert scaled(0.5) == scaled(0.25)


def test_engines_of_targets() -> None:
    assert WIDENING in engines_for(AVX2)
    assert depth_of(AMX, 147) == depth_of(AMX, 156)
    assert depth_of(AMX, 147).padded == 156
    assert depth_of(VNNI, 147).padded == 148


@pytest.mark.parametrize("last", ["mean", "quantize", "several", "nothing"])
def test_regions_whatever_follows(last: str) -> None:
    """A reader with a single input, such as a mean, once was asked for its scale."""
    network = tenonrt.Network("followed")
    y = network.add_convolution(dequantized(network, "x", (1, 8, 5, 5), "int8"), weighted(network, (8, 8, 1, 1)))
    y = network.add_activation(y, function="relu")
    if last == "mean":
        y = network.add_reduce(y, operation="mean", axes=(2, 3))
    elif last != "nothing":
        scale = np.ones(8 if last == "several" else (), np.float32)
        y = network.add_quantize(y, scale, None, dtype="int8", axis=1)
    network.mark_output(y, "y")
    (product,) = (layer for layer in network.layers if layer.kind == "Convolution")
    found = [[layer.kind for layer in region] for region in QuantizedContraction().regions(network.graph, product)]
    whole = ["Dequantize", "Dequantize", "Convolution", "Activation"]
    assert found == ([[*whole, "Quantize"]] if last == "quantize" else [whole[:3], whole])


def test_refusals_say_why() -> None:
    kernel = QuantizedContraction()
    grouped = convolution((1, 8, 5, 18, 3), groups=2)
    assert "groups of 9 outputs" in kernel.supports(grouped).why
    assert "one filter" in kernel.supports(convolution((1, 32, 5, 32, 3), groups=32)).why
    pooled = problem_of(
        lambda n: n.add_pooling(dequantized(n, "x", (1, 4, 5, 5), "int8"), function="max", window=(2, 2))
    )
    assert "pooling by max" in QuantizedAverage().supports(pooled).why
    plain = problem_of(lambda n: n.add_convolution(n.add_input("x", (1, 4, 5, 5)), np.zeros((4, 4, 1, 1), np.float32)))
    assert "not dequantized" in kernel.supports(plain).why
