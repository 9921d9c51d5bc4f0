"""Networks at the edges of what an engine takes, each against NumPy: aliasing, constants, sizes of nothing, strings."""

from __future__ import annotations

import copy
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from numpy.typing import NDArray
from tenonrt.builder.sampling import judge
from tenonrt.contracts import ExecutionError, TensorType, Tolerance, numpy_dtype, symbol
from tenonrt.graph.network import Network
from tenonrt.runtime.engine import Engine

Arrays = dict[str, NDArray[Any]]
LEVELS = (0, 3)
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def run(net: Network, level: int, tmp_path: Path, **inputs: Any) -> Arrays:
    """The outputs, twice from one context and once more from the saved plan: all must be the same."""
    engine = tenonrt.compile(net, optimization_level=level)
    context = engine.create_context()
    first, second = context.execute(inputs), context.execute(inputs)
    engine.save(tmp_path / "a.plan")
    third = Engine.load(tmp_path / "a.plan").create_context().execute(inputs)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], third[name])
        assert first[name].dtype == third[name].dtype
    return first


@pytest.mark.parametrize("level", LEVELS)
class TestAliases:
    def test_an_input_that_is_an_output_twice(self, level: int, tmp_path: Path) -> None:
        net = Network()
        x = net.add_input("x", (3, 4))
        net.mark_output(x, "a")
        net.mark_output(x, "b")
        net.mark_output(net.add_activation(x, function="relu"), "c")
        found = run(net, level, tmp_path, x=X)
        np.testing.assert_array_equal(found["a"], X)
        np.testing.assert_array_equal(found["c"], np.maximum(X, 0))
        found["a"][0, 0] = 99
        assert found["b"][0, 0] == X[0, 0]

    def test_nothing_but_an_input(self, level: int, tmp_path: Path) -> None:
        net = Network()
        net.mark_output(net.add_input("x", (3, 4)), "y")
        net.add_input("unused", (7,))
        found = run(net, level, tmp_path, x=X, unused=np.zeros(7, np.float32))
        np.testing.assert_array_equal(found["y"], X)

    def test_constants_are_outputs(self, level: int, tmp_path: Path) -> None:
        net = Network()
        net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
        big = np.array([1.5, -2.5], ">f4")
        net.mark_output(net.add_constant(big), "big endian")
        net.mark_output(net.add_constant(np.broadcast_to(np.float32(3), (2, 2))), "repeated")
        net.mark_output(net.add_constant(np.array(7, np.int64)), "scalar")
        net.mark_output(net.add_constant(np.array(["a", "bc"])), "words")
        net.mark_output(net.add_constant(np.zeros((0, 3), np.float32)), "nothing")
        found = run(net, level, tmp_path, x=X)
        np.testing.assert_array_equal(found["big endian"], np.array([1.5, -2.5], np.float32))
        assert found["big endian"].dtype.isnative
        np.testing.assert_array_equal(found["repeated"], np.full((2, 2), 3, np.float32))
        np.testing.assert_array_equal(found["scalar"], np.array(7))
        assert found["words"].tolist() == ["a", "bc"]
        assert found["nothing"].shape == (0, 3)

    def test_big_endian_weights_compute(self, level: int, tmp_path: Path) -> None:
        net = Network()
        w = np.arange(100, dtype=">f4").reshape(1, 100)
        net.mark_output(net.add_elementwise(net.add_input("x", (2, 100)), w, operation="sum"), "y")
        x = np.ones((2, 100), np.float32)
        np.testing.assert_array_equal(run(net, level, tmp_path, x=x)["y"], x + np.arange(100, dtype=np.float32))

    def test_in_place_through_views(self, level: int, tmp_path: Path) -> None:
        """A reshape shows bytes that a later step reads in another shape."""
        net = Network()
        x = net.add_input("x", (3, 4))
        h = net.add_activation(x, function="relu")
        flat = net.add_reshape(h, np.array([12], np.int64))
        a = net.add_activation(flat, function="sigmoid")
        b = net.add_activation(h, function="tanh")
        net.mark_output(net.add_elementwise(net.add_reshape(a, np.array([3, 4], np.int64)), b, operation="sum"), "y")
        net.mark_output(flat, "flat")
        found = run(net, level, tmp_path, x=X)
        relu = np.maximum(X, 0).astype(np.float64)
        np.testing.assert_allclose(found["y"], 1 / (1 + np.exp(-relu)) + np.tanh(relu), rtol=1e-5)
        np.testing.assert_array_equal(found["flat"], np.maximum(X, 0).reshape(12))

    def test_one_tensor_twice(self, level: int, tmp_path: Path) -> None:
        net = Network()
        h = net.add_activation(net.add_input("x", (3, 4)), function="relu")
        s = net.add_elementwise(h, h, operation="prod")
        net.mark_output(net.add_elementwise(s, net.add_reshape(s, np.array([3, 4], np.int64)), operation="sub"), "y")
        net.mark_output(net.add_concatenation(h, h, axis=0), "twice")
        found = run(net, level, tmp_path, x=X)
        assert not found["y"].any()
        np.testing.assert_array_equal(found["twice"], np.concatenate([np.maximum(X, 0)] * 2))

    def test_slices_are_outputs_and_read_on(self, level: int, tmp_path: Path) -> None:
        net = Network()
        h = net.add_activation(net.add_input("x", (3, 4)), function="relu")
        part = net.add_slice(h, np.array([0, 1]), np.array([3, 3]))
        net.mark_output(part, "part")
        net.mark_output(net.add_activation(part, function="tanh"), "t")
        net.mark_output(net.add_reshape(part, np.array([6], np.int64)), "flat")
        again = net.add_slice(part, np.array([1, 0]), np.array([3, 1]))
        net.mark_output(again, "again")
        found = run(net, level, tmp_path, x=X)
        r = np.maximum(X, 0)
        np.testing.assert_array_equal(found["part"], r[:, 1:3])
        np.testing.assert_array_equal(found["flat"], r[:, 1:3].reshape(6))
        np.testing.assert_array_equal(found["again"], r[1:, 1:2])
        np.testing.assert_allclose(found["t"], np.tanh(r[:, 1:3]), rtol=1e-6)

    def test_nested_joins(self, level: int, tmp_path: Path) -> None:
        net = Network()
        x = net.add_input("x", (3, 4))
        a, b = net.add_activation(x, function="relu"), net.add_activation(x, function="tanh")
        inner = net.add_concatenation(a, b, x, axis=1)
        outer = net.add_concatenation(inner, a, inner, axis=1)
        net.mark_output(outer, "y")
        net.mark_output(net.add_activation(inner, function="relu"), "z")
        net.mark_output(b, "b")
        found = run(net, level, tmp_path, x=X)
        joined = np.concatenate([np.maximum(X, 0), np.tanh(X), X], 1)
        np.testing.assert_allclose(found["y"], np.concatenate([joined, np.maximum(X, 0), joined], 1), rtol=1e-6)
        np.testing.assert_allclose(found["z"], np.maximum(joined, 0), rtol=1e-6)

    def test_parts_of_what_is_joined(self, level: int, tmp_path: Path) -> None:
        """What is written into a larger tensor can be cut by views, and these can be joined."""
        net = Network()
        x = net.add_input("x", (3, 4))
        whole = net.add_activation(x, function="relu")
        first, second = net.add("Split", [whole], {"axis": 1, "parts": 2})
        joined = net.add_concatenation(whole, net.add_activation(second, function="tanh"), axis=1)
        net.mark_output(joined, "joined")
        net.mark_output(net.add_concatenation(second, first, axis=1), "turned")
        found = run(net, level, tmp_path, x=X)
        r = np.maximum(X, 0)
        np.testing.assert_allclose(found["joined"], np.concatenate([r, np.tanh(r[:, 2:])], 1), rtol=1e-6)
        np.testing.assert_array_equal(found["turned"], np.concatenate([r[:, 2:], r[:, :2]], 1))


@pytest.mark.parametrize("level", LEVELS)
class TestSizes:
    def test_nothing_and_scalars(self, level: int, tmp_path: Path) -> None:
        net = Network()
        e, s = net.add_input("e", (0, 4)), net.add_input("s", ())
        net.mark_output(net.add_elementwise(e, s, operation="sum"), "none")
        net.mark_output(net.add_activation(s, function="relu"), "one")
        net.mark_output(net.add_concatenation(e, net.add_input("x", (3, 4)), axis=0), "joined")
        found = run(net, level, tmp_path, e=np.zeros((0, 4), np.float32), s=np.array(2, np.float32), x=X)
        assert found["none"].shape == (0, 4)
        np.testing.assert_array_equal(found["one"], np.array(2, np.float32))
        np.testing.assert_array_equal(found["joined"], X)

    def test_a_symbol_that_may_be_zero(self, level: int, tmp_path: Path) -> None:
        net = Network()
        x = net.add_input("x", (symbol("n", 0, 9), 4))
        net.mark_output(net.add_activation(x, function="relu"), "y")
        context = tenonrt.compile(net, optimization_level=level).create_context()
        for n in (0, 3, 0):
            np.testing.assert_array_equal(context.execute({"x": X[:n]})["y"], np.maximum(X[:n], 0))

    def test_a_symbol_in_composite_dimensions_only(self, level: int, tmp_path: Path) -> None:
        net = Network()
        x = net.add_input("x", (symbol("n", 1, 9) * 2, 4))
        net.mark_output(net.add_activation(x, function="relu"), "y")
        engine = tenonrt.compile(net, optimization_level=level)
        context = engine.create_context()
        x = np.concatenate([X, -X])
        np.testing.assert_array_equal(context.execute({"x": x})["y"], np.maximum(x, 0))
        with pytest.raises(ExecutionError, match="'x'"):
            context.execute({"x": X})

    def test_strings_pass_through(self, level: int, tmp_path: Path) -> None:
        net = Network()
        words = net.input("words", TensorType((2,), "string"), "host")
        net.mark_output(words, "same")
        net.mark_output(net.add_identity(words), "copied")
        found = run(net, level, tmp_path, words=np.array(["a", "tenon"]))
        assert found["same"].tolist() == found["copied"].tolist() == ["a", "tenon"]


def test_shapes_of_two_inputs_must_agree() -> None:
    net = Network()
    n = symbol("n", 1, 9)
    x, y = net.add_input("x", (n, 4)), net.add_input("y", (n, 4))
    net.mark_output(net.add_elementwise(x, y, operation="sum"), "z")
    with pytest.raises(tenonrt.BuildError, match="n"):
        tenonrt.compile(net, optimization_level=0, shapes={"x": (2, 4), "y": (3, 4)})


@pytest.mark.parametrize("dtype", ["bfloat16", "int4", "float8_e4m3fn", "complex64", "bool"])
def test_constants_of_every_kind_of_element(dtype: str, tmp_path: Path) -> None:
    net = Network()
    values = np.array([0, 1, 1]).astype(numpy_dtype(dtype))
    net.mark_output(net.add_constant(values), "y")
    np.testing.assert_array_equal(run(net, 0, tmp_path)["y"], values)


def test_a_context_works_on_after_an_error() -> None:
    net = Network()
    x = net.add_input("x", (symbol("n", 1, 9),))
    indices = net.input("indices", TensorType((2,), "int64"))
    net.mark_output(net.add("NonZero", [net.add_gather(x, indices, axis=0)])[0], "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    good = {"x": np.array([1, 0, 3], np.float32), "indices": np.array([0, 1])}
    for _ in range(2):
        np.testing.assert_array_equal(context.execute(good)["y"], [[0]])
        with pytest.raises(ExecutionError, match="Gather"):
            context.execute({**good, "indices": np.array([0, 7])})


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers that interrupt")
def test_a_context_works_on_after_an_interrupt_in_another_thread() -> None:
    """At no moment of a run may an interrupt leave the context claimed."""
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    waiting, rng = False, np.random.default_rng(0)

    def interrupt(*_: object) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor(1) as other:
            for _ in range(800):
                with suppress(KeyboardInterrupt):
                    waiting = True
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-4))
                    while waiting:
                        context.execute({"x": X})
                found = other.submit(context.execute, {"x": X}).result()
                np.testing.assert_array_equal(found["y"], np.maximum(X, 0))
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("given", [None, [X], X])
def test_inputs_without_names_are_refused(given: Any) -> None:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    for call in (context.execute, context.prepare):
        with pytest.raises(ExecutionError, match="inputs are given by name, as a dict, not as"):
            call(given)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([[1.0], [2.0, 3.0]], "must be an array of float32: .*inhomogeneous"),
        (None, "is of type NoneType; it must be float32"),
        ({1, 2}, "is of type set; it must be float32"),
        (X.tolist(), r"is float64; .* with numpy.asarray\(values, 'float32'\)"),
        (X.astype(np.float64), r"is float64; .* with .astype\('float32'\)"),
    ],
)
def test_values_that_are_no_such_arrays_are_refused(value: Any, why: str) -> None:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    with pytest.raises(ExecutionError, match=f"input 'x' {why}"):
        context.execute({"x": value})


@pytest.mark.parametrize(
    ("shapes", "why"),
    [({}, "missing: \\['x'\\]"), ({"x": 3}, "is 3; give a tuple"), ({"x": (3.0, 4)}, "give a tuple of ints")],
)
def test_shapes_that_are_none_are_refused(shapes: Any, why: str) -> None:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    for call in (context.prepare, context.buffers):
        with pytest.raises(ExecutionError, match=why):
            call(shapes)


@pytest.mark.parametrize("size", [2**42, 2**60])
def test_sizes_that_no_memory_holds_are_told(size: int) -> None:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (symbol("n", lower=1), 4)), function="relu"), "y")
    context = tenonrt.compile(net, optimization_level=0).create_context()
    with pytest.raises(ExecutionError, match=f"there is no room for n={size}: .*; give smaller inputs"):
        context.prepare({"x": (size, 4)})
    np.testing.assert_array_equal(context.execute({"x": X})["y"], np.maximum(X, 0))


def test_copies_are_refused() -> None:
    """A copy of a context would share its memory, and give wrong results in another thread."""
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    engine = tenonrt.compile(net, optimization_level=0)
    for found, remedy in ((engine, "save it for other proc"), (engine.create_context(), "create_context")):
        for attempt in (copy.copy, copy.deepcopy):  # as pickling, by __reduce__
            with pytest.raises(TypeError, match=rf"cannot be copied or pickled: .*{remedy}"):
                attempt(found)


def test_slips_of_the_pen_are_refused(tmp_path: Path) -> None:
    net = Network()
    net.mark_output(net.add_activation(net.add_input("x", (3, 4)), function="relu"), "y")
    engine = tenonrt.compile(net, optimization_level=0)
    engine.save(tmp_path / "a.plan")
    with pytest.raises(ValueError, match="code is 'Ignore'; it must be 'run' or 'ignore'"):
        Engine.load(tmp_path / "a.plan", code="Ignore")  # type: ignore[arg-type]
    for seed in ("a", -1, 1.5):
        with pytest.raises(ExecutionError, match=r"the seed is .*; it must be a whole number"):
            engine.create_context(seed=seed)  # type: ignore[arg-type]


def test_contexts_of_one_engine_run_side_by_side() -> None:
    net = Network()
    x = net.add_input("x", (symbol("n", 1, 64), 32))
    h = net.add_activation(x, function="relu")
    net.mark_output(net.add_elementwise(net.add_softmax(h, axis=1), h, operation="sum"), "y")
    engine = tenonrt.compile(net, optimization_level=0)

    def work(seed: int) -> float:
        context, rng, worst = engine.create_context(), np.random.default_rng(seed), 0.0
        for _ in range(20):
            value = rng.standard_normal((int(rng.integers(1, 64)), 32)).astype(np.float32)
            relu = np.maximum(value.astype(np.float64), 0)
            expected = np.exp(relu) / np.exp(relu).sum(1, keepdims=True) + relu
            worst = max(worst, float(np.abs(context.execute({"x": value})["y"] - expected).max()))
        return worst

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(work, range(4))) < 1e-5


def test_a_loaded_plan_outlives_its_file_and_may_be_saved_over_it(tmp_path: Path) -> None:
    net = Network()
    w = np.arange(400, dtype=np.float32).reshape(1, 400)
    net.mark_output(net.add_elementwise(net.add_input("x", (2, 400)), w, operation="sum"), "y")
    path = tmp_path / "a.plan"
    tenonrt.compile(net, optimization_level=0).save(path)
    whole, x = path.read_bytes(), np.ones((2, 400), np.float32)
    engine = Engine.load(path)
    engine.save(path)
    assert path.read_bytes() == whole
    path.unlink()
    np.testing.assert_array_equal(engine.create_context().execute({"x": x})["y"], x + w)
    with pytest.raises(tenonrt.PlanError, match="cannot be written"):
        engine.save(tmp_path / "no folder" / "a.plan")


@pytest.mark.parametrize("level", LEVELS)
def test_overflow_is_infinite_and_no_warning(level: int, tmp_path: Path) -> None:
    """The tests turn warnings into errors, as applications may: a sum past the largest float is infinite."""
    net = Network()
    x = net.add_input("x", (1, 2, 4, 4))
    net.mark_output(net.add_convolution(x, np.full((2, 1, 3, 3), 1e30, np.float32), groups=2), "y")
    found = run(net, level, tmp_path, x=np.full((1, 2, 4, 4), 1e10, np.float32))
    np.testing.assert_array_equal(found["y"], np.full((1, 2, 2, 2), np.inf, np.float32))


def test_what_no_float_can_hold_must_be_infinite() -> None:
    """The answer is computed in float64, where 1e39 is finite; a float32 output can only be infinite there."""
    allowed, answer = Tolerance(1e-5, 1e-6), np.array([1e39, 1.0])
    assert judge(np.array([np.inf, 1], np.float32), answer, allowed).ok
    assert not judge(np.array([3e38, 1], np.float32), answer, allowed).ok
    assert not judge(np.array([-np.inf, 1], np.float32), answer, allowed).ok
