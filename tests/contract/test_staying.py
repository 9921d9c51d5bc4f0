"""Programs as wholes: whether a step in Python is worth leaving the native program for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, Engine, Network, PluginSet, Registry
from tenonrt.builder import finalists, staying
from tenonrt.builder.offers import Offer
from tenonrt.builder.tuner import Tuner

pytest.importorskip("llvmlite", reason="native kernels are generated with it")

GEMM = "tenonrt-kernel-numpy:cpu/Convolution.numpy_gemm"


@pytest.fixture
def registry() -> Registry:
    return Registry(PluginSet(deny=("acme-tenonrt",)))


@pytest.fixture
def cheap_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed alone, convolutions in NumPy seem to take next to nothing."""
    usual = Tuner.nanoseconds
    monkeypatch.setattr(
        Tuner, "nanoseconds", lambda self, offer: 1 if offer.entry.id == GEMM else usual(self, offer) + 1_000_000
    )


def build(registry: Registry, cache: Path | None = None) -> Engine:
    network = Network("convolutions", registry)
    x = network.add_input("x", (1, 16, 8, 8))
    for index in range(2):
        weights = np.random.default_rng(index).standard_normal((16, 16, 3, 3)).astype(np.float32)
        x = network.add_convolution(x, weights, pre_padding=(1, 1), post_padding=(1, 1), name=f"conv{index}")
    network.mark_output(x, "y")
    return Builder(BuilderConfig(optimization_level=3, timing_cache=cache, plugins=registry.plugins)).build(network)


def in_python(engine: Engine) -> set[str]:
    return {step.name for step in engine.report.steps if step.kernel == GEMM}


@pytest.mark.usefixtures("cheap_library")
@pytest.mark.parametrize(("times", "left"), [([2.0, 1.0], set()), ([1.0, 2.0], {"conv0", "conv1"})])
def test_the_faster_program_stays(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, times: Sequence[float], left: set[str]
) -> None:
    monkeypatch.setattr(staying, "_times", lambda *given: times)
    assert in_python(build(registry)) == left


@pytest.mark.usefixtures("cheap_library")
def test_programs_run_once_for_each_timing_cache(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = build(registry, tmp_path / "timings.sqlite")
    assert any(note.startswith("as a whole") for note in first.report.notes)
    monkeypatch.setattr(staying, "trial_runner", lambda *given: pytest.fail("the cache knows its time"))
    again = build(registry, tmp_path / "timings.sqlite")
    assert in_python(again) == in_python(first)


def test_nothing_is_run_where_nothing_leaves_the_program(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Tuner.nanoseconds

    def dear(self: Tuner, offer: Offer) -> int:
        return 1_000_000_000 if offer.entry.id == GEMM else usual(self, offer)

    monkeypatch.setattr(Tuner, "nanoseconds", dear)
    monkeypatch.setattr(staying, "_times", lambda *given: pytest.fail("there is one program only"))
    engine: Any = build(registry)
    assert not in_python(engine)


def test_finals_bring_no_step_in_python_back(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place it may look faster than it is: the steps after it pay."""
    rows = "tenonrt-kernel-numpy:cpu/FullyConnected.numpy_gemm"
    monkeypatch.setattr(Tuner, "nanoseconds", lambda self, offer: 1001 if offer.entry.id == rows else 1000)

    def measure(selector: Any, cover: Any, fields: Any, tuner: Tuner, lower: Any) -> dict[str, float]:
        rivals = [column.id for field in fields.values() for column in field.columns]
        return {name: 1.0 if rows in name else 2.0 for name in rivals}

    monkeypatch.setattr(finalists, "_measure", measure)
    network = Network("classifier", registry)
    x = network.add_input("x", (1, 64))
    weights = np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32)
    network.mark_output(network.add_fully_connected(x, weights), "y")
    engine = Builder(BuilderConfig(optimization_level=3, plugins=registry.plugins)).build(network)
    assert all(step.kernel != rows for step in engine.report.steps)
