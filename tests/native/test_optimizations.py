"""What each optimization does to whole networks: copies that go, siblings that join, equal results without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, Engine, Network, Registry
from tenonrt.builder.optimizations import OPTIMIZATIONS
from tenonrt.builder.selection import Selector
from tenonrt.contracts import LINEAR, NCHW16C, NHWC
from tenonrt.plan.program import Choice
from tenonrt.plugins.selection import PluginSet

pytestmark = pytest.mark.xdist_group("llvm plans")

pytest.importorskip("llvmlite", reason="generates the kernels of these tests")

NATIVE = PluginSet(deny=("tenonrt-kernel-numpy",))
Array = np.ndarray[Any, Any]
GROWTH = 16


def values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def convolution(network: Network, x: Any, count: int, name: str, window: int = 3) -> Any:
    edge = (window // 2,) * 2
    weights = values(count, x.type.shape[1], window, window) / np.float32(np.sqrt(x.type.shape[1]) * window)
    y = network.add_convolution(x, weights, pre_padding=edge, post_padding=edge, name=name)
    return network.add_activation(y, function="relu", name=f"relu {name}")


def dense(chained: bool) -> Network:
    """A dense block: each layer reads all results before it, joined anew or to what was joined before."""
    network = Network("dense", Registry())
    parts = [network.add_input("x", (1, GROWTH, 12, 12))]
    parts[0] = joined = convolution(network, parts[0], GROWTH, "stem")
    for number in range(3):
        parts.append(convolution(network, joined, GROWTH, f"layer {number}"))
        inputs = [joined, parts[-1]] if chained else parts
        joined = network.add_concatenation(*inputs, axis=1, name=f"concat {number}")
    network.mark_output(network.add_reduce(joined, operation="mean", axes=(2, 3), keep_dims=False, name="mean"), "y")
    return network


def shared() -> Network:
    """A tensor that two concatenations read."""
    network = Network("shared", Registry())
    x = convolution(network, network.add_input("x", (1, 16, 12, 12)), 16, "stem")
    a, b, c = (convolution(network, x, 16, name) for name in "abc")
    for number, parts in enumerate([(a, b), (c, a)]):
        joined = network.add_concatenation(*parts, axis=1, name=f"concat {number}")
        mean = network.add_reduce(convolution(network, joined, 16, f"after {number}"), operation="mean", axes=(2, 3))
        network.mark_output(mean, f"y{number}")
    return network


def inception() -> Network:
    """A block with three 1x1 convolutions of one tensor."""
    network = Network("inception", Registry())
    x = convolution(network, network.add_input("x", (1, 16, 14, 14)), 64, "stem")
    first = convolution(network, x, 32, "a", 1)
    second = convolution(network, convolution(network, x, 32, "b", 1), 32, "b3")
    third = convolution(network, convolution(network, x, 16, "c", 1), 16, "c3")
    joined = network.add_concatenation(first, second, third, axis=1, name="concat")
    network.mark_output(network.add_reduce(joined, operation="mean", axes=(2, 3), keep_dims=False, name="mean"), "y")
    return network


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("times") / "cache"


def build(network: Network, cache: Path, *disable: str, **config: Any) -> Engine:
    settings = {"plugins": NATIVE, "timing_cache": cache, "disable": frozenset(disable), **config}
    return Builder(BuilderConfig(**settings)).build(network)


def run(engine: Engine) -> dict[str, Array]:
    (binding,) = [b for b in engine.bindings if b.is_input]
    return dict(engine.create_context().execute({binding.name: values(*binding.type.shape)}))


def reference(network: Network) -> dict[str, Array]:
    """By the layers' references in float64."""
    graph = network.graph
    known: dict[Any, Any] = {t: values(*t.type.shape).astype(np.float64) for t in graph.inputs}
    for layer in graph.layers:
        arrays = [None if t is None else known.get(t, t.constant) for t in layer.inputs]
        made = layer.layer_type.reference(layer.attrs, arrays, None)  # type: ignore[arg-type]
        known.update(zip(layer.outputs, made, strict=True))
    return {name: known[t] for name, t in graph.outputs.items()}


def copies(engine: Engine) -> list[str]:
    """Steps that only move data."""
    return [s.name for s in engine.plan.program.steps if "copy" in s.kernel or "reformat" in s.kernel]


@pytest.mark.parametrize("chained", [True, False])
def test_a_dense_block_joins_nothing_by_copying(cache: Path, chained: bool) -> None:
    expected = reference(dense(chained))
    engine = build(dense(chained), cache)
    assert not [name for name in copies(engine) if "concat" in name]
    np.testing.assert_allclose(run(engine)["y"], expected["y"], rtol=1e-4, atol=1e-5)
    ladder = {rung.step: rung.layers for rung in engine.report.ladder}
    assert ladder["regions chosen"] - ladder["concats removed"] == 3
    kept = build(dense(chained), cache, "concat_removal")
    assert [name for name in copies(kept) if "concat" in name] == ["concat 0", "concat 1", "concat 2"]


def test_a_slice_with_gaps_within_rows_is_no_view() -> None:
    """Kernels that read slices take for granted that a row is dense, as their first runs have it."""
    network = Network("sliced", Registry())
    x = network.add_input("x", (2, 20, 8, 16))
    for axis, name in ((1, "channels"), (2, "rows"), (3, "columns")):
        bounds = [np.array([value]) for value in (1, x.type.shape[axis], axis, 2)]
        network.mark_output(network.add("Slice", [x, *bounds], {}, name=name)[0], f"y {name}")
    selector = Selector(network.graph, [NCHW16C, NHWC])
    formats = {layer.name: selector._slice_formats(layer, view) for layer, view in selector.views.items()}
    assert formats == {"channels": [LINEAR], "rows": [LINEAR, NHWC]}


def test_what_two_concatenations_read_is_copied_once(cache: Path) -> None:
    expected = reference(shared())
    engine = build(shared(), cache)
    # One of them is where its parts are written; for the other it is copied alone, or all parts are.
    moved = [name for name in copies(engine) if name.startswith(("relu a to", "concat 0", "concat 1"))]
    assert len([name for name in moved if not name.endswith("linear")]) == 1
    for name, found in run(engine).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5)


def test_siblings_of_an_inception_block_are_candidates_and_can_be_forced(cache: Path) -> None:
    expected = reference(inception())
    engine = build(inception(), cache)
    regions = {region.name: region for region in engine.report.regions}
    whole = "a + relu a || b + relu b || c + relu c"
    assert {whole, "a + relu a || b + relu b", "a + relu a || c + relu c", "b + relu b || c + relu c"} <= set(regions)
    joined = next(c for c in regions[whole].candidates if c.seconds is not None)
    recorded = {c.region: c.solver.partition("#")[::2] for c in engine.report.choices}
    forced = {name: choice for name, choice in recorded.items() if not {*"abc"} & {*name.split(" ")}}
    choice = Choice({**forced, whole: (joined.kernel, joined.tactic)})  # type: ignore[dict-item]
    found = build(inception(), cache, replay=choice)
    (step,) = [s for s in found.plan.program.steps if "||" in s.name]
    assert step.name == whole
    assert set(step.sources) == {"a", "relu a", "b", "relu b", "c", "relu c"}
    assert len(step.outputs) == 3
    np.testing.assert_allclose(run(found)["y"], expected["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(OPTIMIZATIONS))
def test_results_do_not_depend_on_an_optimization(cache: Path, name: str) -> None:
    # Convolutions of planes are NumPy's.
    engine = build(inception(), cache, name, plugins=None if name == "formats" else NATIVE)
    np.testing.assert_allclose(run(engine)["y"], reference(inception())["y"], rtol=1e-4, atol=1e-5)
    names = [step.name for step in engine.plan.program.steps]
    if name == "aggregation":
        assert not any("||" in step for step in names)
    if name == "fusion":
        assert not any(" + " in step for step in names)
    if name == "formats":
        assert not any("reformat" in step.kernel for step in engine.plan.program.steps)
    if name == "memory_reuse":
        assert engine.plan.program.arena > engine.plan.program.lower_bound
    if name == "concat_removal":
        assert "concat" in names


def test_a_workspace_limit_says_which_tactics_it_excludes(cache: Path) -> None:
    engine = build(inception(), cache, workspace=0)
    refused = {c.why for region in engine.report.regions for c in region.candidates if "workspace" in c.why}
    assert refused
    assert all("workspace takes more than the 0 that the configuration allows" in why for why in refused)
    assert any("workspace excludes" in note for note in engine.report.notes)


def test_the_best_of_a_softmax_are_a_region(cache: Path) -> None:
    network = Network("scores", Registry())
    shares = network.add_softmax(network.add_input("x", (4, 1000)), axis=-1, name="softmax")
    values_found, places = network.add("TopK", [shares, np.array([5])], {}, name="best")
    network.mark_output(values_found, "scores")
    network.mark_output(places, "places")
    engine = build(network, cache)
    regions = {region.name: region for region in engine.report.regions}
    found = [c for c in regions["softmax + best"].candidates if c.kernel.endswith("best_shares")]
    assert [c.tactic for c in found if c.seconds is not None] == ["select", "sort"]
    x = values(4, 1000).astype(np.float64)
    expected = np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)
    results = run(engine)
    order = np.argsort(-expected, 1, kind="stable")[:, :5]
    np.testing.assert_array_equal(results["places"], order)
    np.testing.assert_allclose(results["scores"], np.take_along_axis(expected, order, 1), rtol=1e-5)
