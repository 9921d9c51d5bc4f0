"""Small programs: whether they are faster on one thread than on those that are allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt import Builder, BuilderConfig, Engine, Network, PluginSet, Registry
from tenonrt.builder import alone

pytest.importorskip("llvmlite", reason="native kernels are generated with it")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(PluginSet(deny=("acme-tenonrt",)))


def build(registry: Registry, threads: int = 2, **config: Any) -> Engine:
    network = Network("small", registry)
    weights = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    y = network.add_convolution(network.add_input("x", (1, 3, 12, 12)), weights)
    network.mark_output(network.add_activation(y, function="relu"), "y")
    return Builder(BuilderConfig(threads=threads, plugins=registry.plugins, **config)).build(network)


@pytest.mark.parametrize(("seconds", "threads"), [([2e-5, 1e-5], 1), ([1e-5, 2e-5], 2), (None, 2)])
def test_the_faster_way_is_taken(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, seconds: list[float] | None, threads: int
) -> None:
    monkeypatch.setattr(alone, "_times", lambda *given: seconds)
    engine = build(registry)
    assert engine.header.threads == threads
    assert any("on one thread" in note for note in engine.report.notes) == (threads == 1)


def test_bits_do_not_depend_on_threads(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"x": np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)}
    monkeypatch.setattr(alone, "_times", lambda *given: [2e-5, 1e-5])
    single = build(registry)
    several = build(registry, replay=single.choice)
    assert (single.header.threads, several.header.threads) == (1, 2)
    found = [engine.create_context().execute(x)["y"].tobytes() for engine in (single, several)]
    assert found[0] == found[1]


def test_the_cache_answers_for_later_builds(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = build(registry, timing_cache=tmp_path / "times.db")
    monkeypatch.setattr(alone, "ProgramRunner", lambda *given: pytest.fail("the cache knows its time"))
    again = build(registry, timing_cache=tmp_path / "times.db", lock=True)
    assert again.header.threads == first.header.threads


def test_nothing_is_run_where_one_thread_is_allowed_or_it_is_switched_off(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "_times", lambda *given: pytest.fail("nothing to choose from"))
    assert build(registry, threads=1).header.threads == 1
    assert build(registry, disable=frozenset({"whole_programs"})).header.threads == 2
