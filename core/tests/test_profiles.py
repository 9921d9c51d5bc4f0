"""Engines with profiles: right at every shape that one holds, by the program tuned for it where there is one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tenonrt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tenonrt.errors import BuildError, ExecutionError, PlanCorruptError
from tenonrt.graph.copying import copy_graph
from tenonrt.graph.network import Network
from tenonrt.plan.plan import Plan
from tenonrt.plan.program import KernelStep, kernel_steps
from tenonrt.problem import Code, Problem, Tactic
from tenonrt.runtime.codes import CodeCache
from tenonrt.runtime.dispatch import UntunedShapeWarning
from tenonrt.runtime.engine import Engine

Array = NDArray[Any]
WIDTH = 8
WEIGHTS = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
# One with two shapes to tune for, one beside it that meets it nowhere.
PROFILES: list[dict[str, Sequence[Sequence[int]]]] = [
    {"x": [(1, 1, WIDTH), (1, 4, WIDTH), (2, 6, WIDTH), (3, 12, WIDTH)]},
    {"x": [(5, 1, WIDTH), (6, 2, WIDTH), (6, 3, WIDTH)]},
]


def network() -> Network:
    """y = softmax over the words of x @ w, and the words of one sentence after the other."""
    net = Network("words")
    x = net.add_input("x", (tenonrt.symbol("N", 1), tenonrt.symbol("S", 1), WIDTH))
    product = net.add_matrix_multiply(x, WEIGHTS, name="product")
    net.mark_output(net.add_softmax(product, axis=1, name="softmax"), "y")
    net.mark_output(net.add_reshape(product, np.array([-1, WIDTH]), name="flat"), "flat")
    return net


def expected(x: Array) -> dict[str, Array]:
    product = x.astype(np.float64) @ WEIGHTS
    powers = np.exp(product - product.max(1, keepdims=True))
    return {"y": powers / powers.sum(1, keepdims=True), "flat": product.reshape(-1, WIDTH)}


def sentences(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal((*shape, WIDTH)).astype(np.float32)


def check(context: Any, shape: tuple[int, int]) -> None:
    x = sentences(*shape)
    found = context.execute({"x": x})
    for name, right in expected(x).items():
        np.testing.assert_allclose(found[name], right, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return tenonrt.compile(network(), profiles=PROFILES, optimization_level=1)


@pytest.fixture(scope="module")
def loaded(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("plans") / "words.plan"
    engine.save(path)
    return Engine.load(path, verify=True)


def test_a_program_for_each_shape_to_tune_for(engine: Engine) -> None:
    assert [tuned.sizes for tuned in engine.plan.tuned] == [{"N": 1, "S": 4}, {"N": 2, "S": 6}, {"N": 6, "S": 2}]
    for tuned in engine.plan.tuned:
        assert all(tensor.type.static for tensor in tuned.program.tensors)
        assert not any(step.specialise or step.symbols for step in kernel_steps(tuned.program))
        assert engine.plan.program_at(dict(reversed(tuned.sizes.items()))) is tuned.program
    assert engine.plan.program_at({"N": 1, "S": 5}) is engine.plan.program
    assert str(engine.profiles[1]) == "N 5 to 6, S 1 to 3"


def test_weights_are_kept_once(engine: Engine) -> None:
    alone = tenonrt.compile(network(), shapes={"x": (2, 6, WIDTH)}, optimization_level=1)
    # Another tactic may want them in another order, but four programs hold no four copies.
    assert sum(w.nbytes for w in engine.plan.weights) < 3 * sum(w.nbytes for w in alone.plan.weights)
    contents = [(w.shape, w.tobytes()) for w in engine.plan.weights]
    assert len(set(contents)) == len(contents)


@settings(max_examples=25)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 12)) | st.tuples(st.integers(5, 6), st.integers(1, 3)))
@pytest.mark.filterwarnings("ignore::tenonrt.runtime.dispatch.UntunedShapeWarning")
def test_every_shape_of_a_profile_is_right(loaded: Engine, shape: tuple[int, int]) -> None:
    check(loaded.create_context(), shape)


@pytest.mark.filterwarnings("ignore::tenonrt.runtime.dispatch.UntunedShapeWarning")
def test_shapes_in_any_order_and_again(loaded: Engine) -> None:
    context = loaded.create_context()
    for shape in [(1, 4), (3, 5), (1, 4), (2, 6), (3, 5), (6, 2), (3, 12), (1, 4), (1, 4)]:
        check(context, shape)


@pytest.mark.parametrize("shape", [(4, 2), (5, 4), (6, 12)])
def test_between_the_profiles_nothing_runs(loaded: Engine, shape: tuple[int, int]) -> None:
    with pytest.raises(ExecutionError, match=r"no profile .* holds N=\d, S=\d+; .* N 1 to 3, S 1 to 12; or N 5 to 6"):
        loaded.create_context().execute({"x": sentences(*shape)})


@pytest.mark.parametrize(("shape", "what"), [((7, 1), "N is 7"), ((1, 13), "S is 13")])
def test_outside_of_all_the_input_is_named(loaded: Engine, shape: tuple[int, int], what: str) -> None:
    with pytest.raises(ExecutionError, match=f"input 'x': {what}; this engine was built for 1 to"):
        loaded.create_context().execute({"x": sentences(*shape)})


def test_far_from_what_was_tuned_for_is_said_once(loaded: Engine) -> None:
    context = loaded.create_context()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for near in [(1, 4), (2, 6), (1, 8), (2, 3), (3, 12), (6, 1)]:
            check(context, near)
    with pytest.warns(UntunedShapeWarning, match=r"runs at N=3, S=1, far from .*\(N=1, S=4; N=2, S=6\)") as caught:
        check(context, (3, 1))
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(context, (1, 1))


def test_prepared_shapes_compile_nothing_later(loaded: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    context = loaded.create_context()
    context.prepare({"x": (3, 7, WIDTH)})
    monkeypatch.setattr(CodeCache, "find", lambda *_: pytest.fail("code was compiled at the first run"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(context, (3, 7))
    with pytest.raises(ExecutionError, match=r"missing: \['x'\]"):
        context.prepare({})
    with pytest.raises(ExecutionError, match="no profile"):
        context.prepare({"x": (4, 1, WIDTH)})


def test_contexts_share_what_was_compiled(engine: Engine) -> None:
    if not any(step.specialise for step in kernel_steps(engine.plan.program)):
        pytest.skip("every kernel chosen takes sizes while running")
    engine.create_context().prepare({"x": (3, 11, WIDTH)})
    count = len(engine.compiled)
    engine.create_context().prepare({"x": (3, 11, WIDTH)})
    assert len(engine.compiled) == count > 0


def test_codes_compiled_while_running_are_bounded() -> None:
    cache, made = CodeCache(most=3), []

    def find(number: int) -> None:
        def compile() -> Code:
            made.append(number)
            return wanted

        wanted = Code(Problem((), (), (), (), "cpu", number), Tactic())
        assert cache.find("kernel", wanted, compile) is not None

    for number in (1, 2, 3, 1, 4, 1, 2):
        find(number)
    assert made == [1, 2, 3, 4, 2]
    assert len(cache) == 3


def test_a_recorded_choice_is_that_of_all_programs(engine: Engine) -> None:
    again = tenonrt.compile(network(), profiles=PROFILES, replay=engine.choice)
    assert again.choice == engine.choice
    assert len(again.choice.tuned) == 3
    with pytest.raises(BuildError, match="knows 0 shapes to tune for"):
        tenonrt.compile(network(), profiles=PROFILES, replay=msgspec.structs.replace(engine.choice, tuned=()))


def test_a_symbol_with_one_size_is_no_symbol() -> None:
    profile = {"x": [(2, 1, WIDTH), (2, 3, WIDTH), (2, 4, WIDTH)]}
    built = tenonrt.compile(network(), profiles=[profile], optimization_level=0)
    assert built.profiles[0].ranges == {"S": (1, 4)}
    check(built.create_context(), (2, 3))
    fixed = tenonrt.compile(network(), profiles=[{"x": [(2, 3, WIDTH)] * 3}], optimization_level=0)
    assert fixed.profiles == ()
    check(fixed.create_context(), (2, 3))


def test_the_largest_batch_bounds_what_a_profile_says_nothing_of() -> None:
    net = network()
    mask = net.add_input("mask", (tenonrt.symbol("M"),))
    net.mark_output(net.add_activation(mask, function="relu"), "positive")
    with pytest.raises(BuildError, match=r"profile 1: M has no upper bound.*'mask'"):
        tenonrt.compile(network_of(net), profiles=PROFILES, optimization_level=0)
    built = tenonrt.compile(net, profiles=PROFILES[1:], max_batch=9, optimization_level=0)
    assert built.profiles[0].ranges == {"N": (5, 6), "S": (1, 3), "M": (1, 9)}
    assert built.profiles[0].tuned == ({"N": 6, "S": 2, "M": 9},)


def network_of(net: Network) -> Network:
    """A network with a graph of its own, for a build that may leave it half rewritten."""
    copied = Network(net.graph.name, net.registry)
    copied.graph = copy_graph(net.graph)
    return copied


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        ({"x": [(1, 1, 8), (1, 2, 8)]}, "has 2 shapes for 'x'"),
        ({"x": [(1, 1, 8), (1, 2), (1, 4, 8)]}, "different rank for 'x'"),
        ({"x": [(1, 1, 8), (1, 5, 8), (1, 4, 8)]}, r"has \(1, 5, 8\) for 'x', outside of \(1, 1, 8\) to \(1, 4, 8\)"),
    ],
)
def test_malformed_profiles_are_refused_at_once(profile: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        tenonrt.BuilderConfig(profiles=[profile])


@pytest.mark.parametrize(
    ("profile", "what"),
    [
        ({"z": [(1,)] * 3}, "profile 2: there is no input 'z'"),
        ({"x": [(1, 1)] * 3}, "profile 2: input 'x' .* another rank"),
        ({"x": [(0, 1, 8), (1, 1, 8), (1, 2, 8)]}, "profile 2: input 'x': N = 0 is outside its range"),
        ({"x": [(1, 1, 8), (1, 1, 9), (1, 1, 9)]}, "profile 2: input 'x' .* cannot have the shape"),
        ({}, "profile 2: N has no upper bound"),
    ],
)
def test_profiles_that_do_not_fit_are_named(profile: dict[str, Any], what: str) -> None:
    with pytest.raises(BuildError, match=what):
        tenonrt.compile(network(), profiles=[PROFILES[0], profile], optimization_level=0)


def two_inputs() -> Network:
    net = Network("sums")
    shape = (tenonrt.symbol("N"),)
    net.mark_output(net.add_elementwise(net.add_input("a", shape), net.add_input("b", shape), operation="sum"), "c")
    return net


def test_inputs_that_share_a_symbol_agree() -> None:
    with pytest.raises(BuildError, match="give both the same size"):
        tenonrt.compile(two_inputs(), profiles=[{"a": [(1,), (2,), (3,)], "b": [(1,), (1,), (3,)]}])
    with pytest.raises(BuildError, match="one input has 2 shapes to tune for, another 3"):
        tenonrt.compile(two_inputs(), profiles=[{"a": [(1,)] * 4, "b": [(1,)] * 5}])
    built = tenonrt.compile(two_inputs(), profiles=[{"a": [(1,), (2,), (3,)]}], optimization_level=0)
    ones = np.ones(2, np.float32)
    np.testing.assert_array_equal(built.create_context().execute({"a": ones, "b": ones})["c"], 2 * ones)


def changed(change: Callable[[Any], Any]) -> Callable[[Plan], Plan]:
    """A plan whose first tuned program is another."""

    def apply(plan: Plan) -> Plan:
        first = msgspec.structs.replace(plan.tuned[0], **change(plan.tuned[0]))
        return msgspec.structs.replace(plan, tuned=(first, *plan.tuned[1:]))

    return apply


def with_code(tuned: Any, code: int) -> dict[str, Any]:
    first = next(step for step in tuned.program.steps if isinstance(step, KernelStep))
    steps = (msgspec.structs.replace(first, code=code), *tuned.program.steps[1:])
    return {"program": msgspec.structs.replace(tuned.program, steps=steps)}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda tuned: {"sizes": {"N": 1, "S": 5}}, "the program for N=1, S=5 has not the bindings"),
        (lambda tuned: {"sizes": {"N": 1}}, "the program for N=1 has not the bindings"),
        (lambda tuned: with_code(tuned, 999), "uses code 999"),
    ],
)
def test_damaged_programs_are_refused(engine: Engine, tmp_path: Path, change: Any, what: str) -> None:
    changed(change)(engine.plan).save(tmp_path / "bad.plan")
    with pytest.raises(PlanCorruptError, match=what):
        Engine.load(tmp_path / "bad.plan")


def test_a_copied_graph_is_its_own() -> None:
    """Nested graphs, captures and names too: both copies build, and neither build changes the other."""
    original = network().graph
    copied = copy_graph(original)
    assert [layer.name for layer in copied.layers] == [layer.name for layer in original.layers]
    assert not {id(t) for layer in copied.layers for t in layer.outputs} & {
        id(t) for layer in original.layers for t in layer.outputs
    }
    assert copied.unique("product") == original.unique("product") == "product_2"
