"""The contract's hardest cases, each on a network of a few layers, compared with NumPy written out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tenonrt
from tenonrt import Builder, BuilderConfig, Engine, Network, Registry, symbol
from tenonrt.contracts import Range, TensorType
from tenonrt.plan.program import UNPLACED, Choice, KernelStep

NUMPY = "tenonrt-kernel-numpy:*/*.numpy"
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")


def build(network: Network, level: int = 0, **config: object) -> Engine:
    return Builder(BuilderConfig(optimization_level=level, **config)).build(network)  # type: ignore[arg-type]


def kernels(engine: Engine) -> list[str]:
    return [step.kernel for step in engine.plan.program.steps if isinstance(step, KernelStep)]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_concatenation_is_written_in_place(registry: Registry) -> None:
    network = Network("concat", registry)
    x = network.add_input("x", (2, 3, 4))
    a = network.add_unary(x, operation="exp")
    b = network.add_activation(x, function="tanh")
    network.mark_output(network.add_concatenation(a, b, axis=1), "y")
    recorded = {"Unary": (NUMPY, "default"), "Activation": (NUMPY, "default"), "Concatenation": ("view", "")}
    engine = build(network, replay=Choice(recorded))
    program = engine.plan.program
    assert [step.name for step in program.steps] == ["Unary", "Activation"]
    assert sum(t.base != UNPLACED and t.part is not None for t in program.tensors) == 2
    value = draw(2, 3, 4)
    result = engine.create_context().execute({"x": value})["y"]
    np.testing.assert_allclose(result, np.concatenate([np.exp(value), np.tanh(value)], 1), rtol=1e-6)


BLOCKED = ("hard-cases:cpu/Unary.hard_blocked", "blocked")


def test_blocks_of_channels_are_concatenated_and_split_without_a_copy(registry: Registry, tmp_path: Path) -> None:
    network = Network("blocks", registry)
    x = network.add_input("x", (2, 16, 3, 5))
    z = network.add_input("z", (2, 40, 3, 5))
    parts = [network.add_unary(t, operation="abs", name=f"part {t.name}") for t in (x, z)]
    whole = network.add_unary(network.add_concatenation(*parts, axis=1, name="join"), operation="abs", name="whole")
    last = network.add_slice(whole, (0, 32, 0, 0), (2, 56, 3, 5), name="cut")
    network.mark_output(network.add_unary(last, operation="abs", name="last"), "y")
    chosen = dict.fromkeys(("part x", "part z", "whole", "last"), BLOCKED)
    engine = build(network, replay=Choice({**chosen, "join": ("view", ""), "cut": ("view", "")}))
    # The two inputs and the output change their format; nothing else is copied.
    assert len(engine.plan.program.steps) == 4 + 3
    slices = [t for t in engine.plan.program.tensors if t.part is not None]
    assert [t.part[1] for t in slices if t.part is not None] == [(0, 1, 1), (1, 4, 1), (2, 4, 1)]
    engine.save(tmp_path / "blocks.plan")
    values = {"x": draw(2, 16, 3, 5), "z": draw(2, 40, 3, 5)}
    expected = np.abs(np.concatenate([values["x"], values["z"]], 1)[:, 32:])
    for each in (engine, Engine.load(tmp_path / "blocks.plan", registry=registry)):
        np.testing.assert_array_equal(each.create_context().execute(values)["y"], expected)


def test_a_part_that_cuts_a_block_is_copied(registry: Registry) -> None:
    network = Network("blocks", registry)
    x = network.add_input("x", (2, 40, 3, 5))
    parts = [network.add_unary(x, operation="abs", name=name) for name in ("first", "second")]
    network.mark_output(network.add_concatenation(*parts, axis=1, name="join"), "y")
    engine = build(network, replay=Choice({"first": BLOCKED, "second": BLOCKED, "join": ("view", "")}))
    value = draw(2, 40, 3, 5)
    found = engine.create_context().execute({"x": value})["y"]
    np.testing.assert_array_equal(found, np.abs(np.concatenate([value, value], 1)))


def test_a_tensor_in_two_concatenations_is_copied_for_one(registry: Registry) -> None:
    network = Network("concat", registry)
    x = network.add_input("x", (2, 3))
    a = network.add_unary(x, operation="exp")
    b = network.add_unary(x, operation="abs")
    network.mark_output(network.add_concatenation(a, b, axis=1), "first")
    network.mark_output(network.add_concatenation(b, a, axis=1), "second")
    value = draw(2, 3)
    for level in (0, 3):
        result = build(network, level).create_context().execute({"x": value})
        expected = np.concatenate([np.exp(value), np.abs(value)], 1)
        np.testing.assert_allclose(result["first"], expected, rtol=1e-6)
        np.testing.assert_allclose(result["second"], np.roll(expected, 3, axis=1), rtol=1e-6)


@needs_gcc
def test_a_python_kernel_in_the_middle_of_native_calls(registry: Registry) -> None:
    network = Network("mixed", registry)
    x = network.add_input("x", (4, 8))
    a = network.add_activation(x, function="relu", name="first")
    b = network.add_softmax(a, axis=1, name="middle")
    network.mark_output(network.add_activation(b, function="relu", name="last"), "y")
    native = ("hard-cases:cpu/Activation.hard_native", "default")
    engine = build(network, replay=Choice({"first": native, "middle": (NUMPY, "default"), "last": native}))
    assert kernels(engine) == [native[0], NUMPY, native[0]]
    value = draw(4, 8)
    positive = np.maximum(value, 0)
    expected = np.exp(positive) / np.exp(positive).sum(1, keepdims=True)
    np.testing.assert_allclose(engine.create_context().execute({"x": value})["y"], expected, rtol=1e-6)


@needs_gcc
def test_a_native_call_is_ranked_with_the_others(registry: Registry) -> None:
    network = Network("native", registry)
    x = network.add_input("x", (64, 256))
    network.mark_output(network.add_activation(x, function="relu", name="relu"), "y")
    engine = build(network, level=3)
    candidates = {c.kernel: c for region in engine.report.regions for c in region.candidates}
    native = candidates["hard-cases:cpu/Activation.hard_native"]
    assert native.seconds is not None
    assert native.why == ""
    value = draw(64, 256)
    np.testing.assert_array_equal(engine.create_context().execute({"x": value})["y"], np.maximum(value, 0))


@pytest.mark.parametrize("kernel", ["hard-cases:cpu/Reshape.hard_host_shape", NUMPY])
def test_a_shape_is_an_input(registry: Registry, kernel: str) -> None:
    network = Network("host", registry)
    x = network.add_input("x", (symbol("n", 1), 6))
    shape = network.input("shape", TensorType((2,), "int64"), "host")
    network.mark_output(network.add_unary(network.add_reshape(x, shape, name="reshape"), operation="neg"), "y")
    engine = build(network, replay=Choice({"reshape": (kernel, "default"), "Unary": (NUMPY, "default")}))
    context, value = engine.create_context(), draw(4, 6)
    for wanted in ((3, 8), (2, 12), (24, 1)):
        result = context.execute({"x": value, "shape": np.array(wanted)})["y"]
        np.testing.assert_array_equal(result, -value.reshape(wanted))
    with pytest.raises(tenonrt.ExecutionError, match="reshape"):
        context.execute({"x": value, "shape": np.array((5, 5))})


def test_if_captures_a_tensor_of_the_outer_graph(registry: Registry) -> None:
    network = Network("if", registry)
    condition = network.add_input("condition", (), "bool")
    x = network.add_input("x", (symbol("n", 1), 3))
    doubled = network.add_elementwise(x, x, operation="sum", name="doubled")
    then, other = network.subgraph("then"), network.subgraph("else")
    then.output(then.add_unary(doubled, operation="exp"), "branch")
    other.output(other.add_elementwise(x, np.float32(5), operation="prod"), "branch")
    (y,) = network.add("If", [condition], graphs=[then, other], name="choose")
    network.mark_output(network.add_unary(y, operation="neg"), "y")
    for level in (0, 3):
        context, value = build(network, level).create_context(), draw(4, 3)
        taken = context.execute({"condition": np.array(True), "x": value})["y"]
        np.testing.assert_allclose(taken, -np.exp(2 * value), rtol=1e-6)
        left = context.execute({"condition": np.array(False), "x": value[:2]})["y"]
        np.testing.assert_allclose(left, -5 * value[:2], rtol=1e-6)


def test_an_int8_edge_carries_its_scale(registry: Registry, tmp_path: Path) -> None:
    network = Network("int8", registry)
    x = network.add_input("x", (5, 7))
    negative = network.add_unary(x, operation="neg", name="neg")
    negative.range = Range(-2.54, 2.54)  # a step of 0.02
    network.mark_output(network.add_activation(negative, function="relu", name="relu"), "y")
    chosen = {
        "neg": ("hard-cases:cpu/Unary.hard_to_int8", "default"),
        "relu": ("hard-cases:cpu/Activation.hard_from_int8", "default"),
    }
    engine = build(network, precision="int8", replay=Choice(chosen))
    assert len(engine.plan.program.steps) == 2, "no reformat between two kernels that agree on int8"
    edge = next(t for t in engine.plan.program.tensors if t.name == "neg")
    assert str(edge.type.numpy) == "int8"
    value = draw(5, 7)
    expected = np.maximum(np.clip(np.rint(-value / 0.02), -127, 127), 0) * np.float32(0.02)
    engine.save(tmp_path / "int8.plan")
    for each in (engine, Engine.load(tmp_path / "int8.plan", registry=registry)):
        np.testing.assert_allclose(each.create_context().execute({"x": value})["y"], expected, atol=1e-6)


def test_an_int8_writer_before_a_float_reader_is_reformatted(registry: Registry) -> None:
    network = Network("int8", registry)
    x = network.add_input("x", (5, 7))
    negative = network.add_unary(x, operation="neg", name="neg")
    negative.range = Range(-2.54, 2.54)
    network.mark_output(network.add_activation(negative, function="tanh", name="tanh"), "y")
    chosen = {"neg": ("hard-cases:cpu/Unary.hard_to_int8", "default"), "tanh": (NUMPY, "default")}
    engine = build(network, precision="int8", replay=Choice(chosen))
    assert len(engine.plan.program.steps) == 3
    value = draw(5, 7)
    expected = np.tanh(np.clip(np.rint(-value / 0.02), -127, 127) * 0.02)
    np.testing.assert_allclose(engine.create_context().execute({"x": value})["y"], expected, atol=1e-6)


def test_int8_needs_a_range_and_a_permission(registry: Registry) -> None:
    network = Network("int8", registry)
    x = network.add_input("x", (5, 7))
    network.mark_output(network.add_unary(x, operation="neg", name="neg"), "y")
    engine = build(network)
    refused = {c.kernel: c.why for region in engine.report.regions for c in region.candidates}
    assert "int8" in refused["hard-cases:cpu/Unary.hard_to_int8"]


def test_shapes_that_depend_on_data(registry: Registry) -> None:
    network = Network("nonzero", registry)
    x = network.add_input("x", (symbol("n", 1), 4))
    places = network.add_non_zero(x)
    rows = network.add_transpose(places, permutation=(1, 0))
    values = network.add_gather_nd(x, rows)
    network.mark_output(network.add_unary(values, operation="exp"), "y")
    network.mark_output(network.add_reduce(values, operation="sum", keep_dims=False), "total")
    for level in (0, 3):
        context = build(network, level).create_context()
        for seed, n in ((0, 3), (1, 5), (2, 1)):
            value = np.random.default_rng(seed).integers(-1, 2, (n, 4)).astype(np.float32)
            result = context.execute({"x": value})
            np.testing.assert_allclose(result["y"], np.exp(value[np.nonzero(value)]), rtol=1e-6)
            np.testing.assert_allclose(result["total"], value.sum(), atol=1e-6)


def test_a_kernel_without_runtime_symbols_is_specialised(registry: Registry) -> None:
    network = Network("special", registry)
    x = network.add_input("x", (symbol("n", 1, 8), 4))
    network.mark_output(network.add("hard.Doubled", [x])[0], "y")
    for level in (0, 3):
        engine = build(network, level)
        assert kernels(engine) == ["hard-cases:cpu/hard.Doubled.hard_static"]
        context = engine.create_context()
        for n in (1, 8, 3, 1):
            value = draw(n, 4)
            np.testing.assert_array_equal(context.execute({"x": value})["y"], 2 * value)
        with pytest.raises(tenonrt.ExecutionError, match="1 to 8"):
            context.execute({"x": draw(9, 4)})


@pytest.mark.parametrize(("tolerance", "kernel"), [(None, NUMPY), (0.1, "hard-cases:cpu/hard.Sloped.hard_inexact")])
def test_an_inexact_tactic_must_suit_the_whole_engine(registry: Registry, tolerance: float | None, kernel: str) -> None:
    network = Network("inexact", registry)
    x = network.add_input("x", (16, 16))
    network.mark_output(network.add("hard.Sloped", [x], name="sloped")[0], "y")
    engine = build(network, level=0, tolerance=tolerance)
    assert kernels(engine) == [kernel]
    assert any("is dropped" in note for note in engine.report.notes) == (tolerance is None)


def test_reduced_accuracy_can_be_forbidden(registry: Registry) -> None:
    network = Network("inexact", registry)
    x = network.add_input("x", (16, 16))
    network.mark_output(network.add("hard.Sloped", [x], name="sloped")[0], "y")
    assert kernels(build(network, allow_inexact=False, tolerance=0.1)) == [NUMPY]


def test_a_plan_runs_to_the_same_bits_in_a_new_process(registry: Registry, tmp_path: Path) -> None:
    network = Network("plan", registry)
    x = network.add_input("x", (symbol("n", 1, 4), 3, 8, 8))
    weights = draw(5, 3, 3, 3)
    y = network.add_activation(
        network.add_convolution(x, weights, pre_padding=(1, 1), post_padding=(1, 1)), function="relu"
    )
    network.mark_output(network.add_concatenation(y, network.add_unary(y, operation="exp"), axis=1), "y")
    engine = build(network, level=3)
    value = draw(2, 3, 8, 8)
    expected = engine.create_context().execute({"x": value})["y"]
    engine.save(tmp_path / "net.plan")
    np.save(tmp_path / "x.npy", value)
    script = (
        "import sys, numpy, tenonrt; folder = sys.argv[1]; "
        "y = tenonrt.Engine.load(folder + '/net.plan', verify=True).create_context()"
        ".execute({'x': numpy.load(folder + '/x.npy')})['y']; numpy.save(folder + '/y.npy', y)"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert np.load(tmp_path / "y.npy").tobytes() == expected.tobytes()


@needs_gcc
def test_code_of_inner_graphs_is_compiled_anew_too(registry: Registry, tmp_path: Path) -> None:
    network = Network("if", registry)
    x = network.add_input("x", (4, 8))
    condition = network.input("condition", TensorType((), "bool"), "host")
    graphs = [network.subgraph("then"), network.subgraph("else")]
    for name, graph in zip(("first", "second"), graphs, strict=True):
        graph.output(graph.add("Activation", [x], {"function": "relu"}, name=name)[0], "y")
    network.mark_output(network.add("If", [condition], graphs=graphs, name="choose")[0], "y")
    native = ("hard-cases:cpu/Activation.hard_native", "default")
    choice = Choice({"first": native, "second": native, "choose": ("control", "")})
    plan = build(network, replay=choice).plan
    foreign = [msgspec.structs.replace(code, blob=b"code of another machine") for code in plan.codes]
    Engine(msgspec.structs.replace(plan, codes=foreign), registry).save(tmp_path / "foreign.plan")
    engine = Engine.load(tmp_path / "foreign.plan", code="ignore", registry=registry)
    assert [code.blob for code in engine.plan.codes] == [code.blob for code in plan.codes]
    value = draw(4, 8)
    found = engine.create_context().execute({"x": value, "condition": np.array(True)})["y"]
    np.testing.assert_array_equal(found, np.maximum(value, 0))
