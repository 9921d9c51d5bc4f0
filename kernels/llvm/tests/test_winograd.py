"""Winograd convolutions against the layer's reference: every structure, size, border and tail, on what can run here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, bind_sample, try_tactic
from tenonrt.contracts import Code, Dimension, Problem, Tactic, symbol
from tenonrt.graph.network import Network
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_llvm.contraction.geometry import Geometry, read_geometry
from tenonrt_kernel_llvm.contraction.tiles import Tile
from tenonrt_kernel_llvm.contraction.winograd import WinogradConvolution
from tenonrt_kernel_llvm.contraction.winograd_recipes import Plan, Recipe, recipes
from tenonrt_kernel_llvm.contraction.winograd_transforms import transform_weights
from tenonrt_kernel_llvm.target import TARGETS, Target, host_target

_REGISTRY = Registry()
_DEVICE = _REGISTRY.device("cpu")
_SLOW = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


class _Any(WinogradConvolution):
    """The kernel with one recipe, worth its while or not, for a given target."""

    def __init__(self, recipe: Recipe, target: Target) -> None:
        self._recipe, self._target = recipe, target

    def recipes(self, geometry: Geometry, problem: Problem) -> Sequence[Recipe]:
        return [self._recipe]

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        return self.generate(problem, tactic, self._target)


def _posed(
    shape: Sequence[Dimension], outputs: int, padding: tuple[int, int], tail: str = "relu", threads: int = 2,
    stride: int = 1,
) -> Problem:  # fmt: skip
    """``tail``: '', 'relu', or 'residual': a sum with a tensor as large as the result, then ReLU."""
    rng, network = np.random.default_rng(0), Network("test")
    channels = shape[1]
    assert isinstance(channels, int)
    image = network.add_input("x", shape)
    weights = rng.standard_normal((outputs, channels, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(outputs).astype(np.float32)
    strides = (stride, stride)
    y = network.add_convolution(image, weights, bias, stride=strides, pre_padding=padding, post_padding=padding)
    if tail == "residual":
        y = network.add_elementwise(y, network.add_input("r", y.type.shape), operation="sum")
    if tail:
        y = network.add_activation(y, function="relu")
    network.mark_output(y, "y")
    return pose(make_region(network.graph, network.graph.layers), "cpu", threads).problem


def _runnable() -> list[Target]:
    """Targets of this machine's kind that are no better than its own."""
    host = host_target()
    return [t for t in TARGETS.values() if t.machine == host.machine and set(t.features) <= set(host.features)]


def _error(problem: Problem, recipe: Recipe, target: Target, batch: int = 2) -> float:
    """max |y - reference| / max |reference|, within what the judge allows."""
    kernel = _Any(recipe, target)
    with using(_REGISTRY):
        assert kernel.supports(problem).ok, kernel.supports(problem).why
        samples = [Sample.draw(problem, _REGISTRY.layer_type, batch, seed) for seed in (0, 1)]
        (tactic,) = kernel.tactics(problem)
        verdict, _ = try_tactic(kernel, problem, tactic, samples, _REGISTRY.layer_type, _DEVICE)
    assert verdict.ok, f"{recipe.key}: {verdict.why}"
    return verdict.error


_RECIPES = st.builds(
    Recipe,
    st.sampled_from([2, 4]),
    st.sampled_from([Tile(6, 1), Tile(2, 2), Tile(3, 3)]),
    st.sampled_from([0, 1, 4, 7]),
)


@pytest.mark.parametrize("target", _runnable(), ids=lambda target: target.name)
@_SLOW
@given(
    recipe=_RECIPES, batch=st.integers(1, 3), channels=st.integers(1, 40), outputs=st.integers(1, 40),
    height=st.integers(1, 20), width=st.integers(1, 20), padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    tail=st.sampled_from(["", "relu", "residual"]), stride=st.sampled_from([1, 2]),
)  # fmt: skip
def test_any_shape(
    target: Target, recipe: Recipe, batch: int, channels: int, outputs: int, height: int, width: int,
    padding: tuple[int, int], tail: str, stride: int,
) -> None:  # fmt: skip
    height, width = max(height, 3 - 2 * padding[0]), max(width, 3 - 2 * padding[1])
    error = _error(_posed((batch, channels, height, width), outputs, padding, tail, stride=stride), recipe, target)
    assert error < (2e-6 if recipe.size == 2 else 4e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("key", ["fused4-9-6x1", "phased4-6x1", "fused2-20-2x2", "phased2-2x2"])
def test_batch_is_given_at_run_time(key: str, stride: int) -> None:
    problem = _posed((symbol("batch", 1, 8), 24, 9, 13), 40, (1, 1), "residual", stride=stride)
    assert problem.symbols
    for batch in (1, 3):
        _error(problem, Recipe.parse(key), _runnable()[0], batch)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("key", ["fused4-9-6x1", "phased4-2x2", "fused2-20-2x2", "phased2-6x1"])
def test_lanes_past_the_last_channel_are_not_read(key: str, stride: int) -> None:
    problem = _posed((1, 24, 9, 13), 40, (1, 1), stride=stride)
    kernel = _Any(Recipe.parse(key), _runnable()[0])
    with using(_REGISTRY):
        sample = Sample.draw(problem, _REGISTRY.layer_type, 1, 0)
        (tactic,) = kernel.tactics(problem)
        bound = bind_sample(kernel, kernel.compile(problem, tactic), sample, _DEVICE)
    bound.launch.inputs[0][:, -1, :, :, 24 % 16 :] = np.nan
    _DEVICE.bind([bound.launch], 2).run(None)
    (found,) = bound.read()
    np.testing.assert_allclose(found, sample.expected[0], atol=4e-5 * np.abs(sample.expected[0]).max())
    assert not bound.launch.outputs[0][:, -1, :, :, 40 % 16 :].any()


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_every_target_compiles(target: Target) -> None:
    problem = _posed((1, 72, 14, 14), 80, (1, 1), "residual")
    geometry = read_geometry(problem)
    assert not isinstance(geometry, str)
    offered = recipes(geometry, target, 2)
    assert {recipe.size for recipe in offered} == {2, 4}
    for recipe in offered:
        kernel = _Any(recipe, target)
        (tactic,) = kernel.tactics(problem)
        assert tactic.exact == (recipe.size == 2)
        assert len(kernel.compile(problem, tactic).blob) < 40_000
        assert Recipe.parse(recipe.key) == recipe


@pytest.mark.parametrize("shape", [(64, 56), (128, 28), (256, 14), (512, 7)])
def test_few_tactics_of_both_sizes_are_offered(shape: tuple[int, int]) -> None:
    channels, side = shape
    geometry = read_geometry(_posed((1, channels, side, side), channels, (1, 1)))
    assert not isinstance(geometry, str)
    for target in TARGETS.values():
        offered = recipes(geometry, target, 2)
        assert 1 <= len(offered) <= 6
        for recipe in offered:
            plan = Plan(geometry, recipe)
            assert plan.units * plan.tiles >= plan.grid.tiles


def test_images_of_few_channels_are_refused() -> None:
    support = WinogradConvolution().supports(_posed((1, 3, 32, 32), 16, (1, 1)))
    assert "direct" in support.why


def test_other_windows_are_refused() -> None:
    network = Network("test")
    image = network.add_input("x", (1, 64, 28, 28))
    weights = np.zeros((64, 64, 3, 3), np.float32)
    y = network.add_convolution(image, weights, stride=(1, 2), pre_padding=(1, 1), post_padding=(1, 1))
    network.mark_output(y, "y")
    problem = pose(make_region(network.graph, network.graph.layers), "cpu", 1).problem
    assert "strides 1 and 2" in WinogradConvolution().supports(problem).why


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_weights_are_packed_by_group_and_by_point(size: int, stride: int) -> None:
    dense = np.random.default_rng(0).standard_normal((40, 5, 3, 3)).astype(np.float32)
    by_group = transform_weights(dense, size, stride, 2, group_first=True)
    by_point = transform_weights(dense, size, stride, 2, group_first=False)
    assert by_group.shape == (2, (size + 2) ** 2, 5, 32)
    np.testing.assert_array_equal(by_group, by_point.swapaxes(0, 1))
    # The last point is at infinity, the last tap of both axes alone, or of the inner tap alone.
    last = 3 - stride
    np.testing.assert_array_equal(by_group[0, -1, :, 7], dense[7, :, last, last])
    assert not by_group[1, :, :, 8:].any()


def test_a_choice_recorded_for_many_threads_is_replayed_on_one() -> None:
    """Units are as even as threads want them, so that other tactics are offered for one thread than for several."""
    from tenonrt import Builder, BuilderConfig
    from tenonrt.plan.program import Choice

    def network() -> Network:
        net = Network("net", _REGISTRY)
        rng = np.random.default_rng(0)
        x = net.add_input("x", (1, 64, 14, 14))
        w = rng.standard_normal((64, 64, 3, 3)).astype(np.float32)
        net.mark_output(net.add_convolution(x, w, pre_padding=(1, 1), post_padding=(1, 1), name="conv"), "y")
        return net

    with using(_REGISTRY):
        geometries = [read_geometry(pose(make_region(n.graph, n.graph.layers), "cpu", 1).problem) for n in [network()]]
        (geometry,) = (g for g in geometries if isinstance(g, Geometry))
        keys = [{recipe.key for recipe in recipes(geometry, host_target(), threads)} for threads in (1, 4)]
        if not keys[1] - keys[0]:
            pytest.skip("this processor's tactics do not depend on threads here")
        kernel = "tenonrt-kernel-llvm:cpu/Convolution.llvm_winograd"
        recorded = Choice({"conv": (kernel, min(keys[1] - keys[0]))}, threads=4)
        x = {"x": np.random.default_rng(1).standard_normal((1, 64, 14, 14)).astype(np.float32)}
        found = []
        for threads in (1, 2, 4):
            engine = Builder(BuilderConfig(threads=threads, replay=recorded)).build(network())
            assert (engine.header.threads, engine.choice) == (threads, recorded)
            found.append(engine.create_context().execute(x)["y"].tobytes())
        assert found[0] == found[1] == found[2]
