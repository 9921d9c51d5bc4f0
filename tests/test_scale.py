"""Networks of ten thousand layers are defined, built, saved, loaded and run; the times are printed, not judged."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt

LAYERS = 10_000

_spec = importlib.util.spec_from_file_location("bench_scale", Path(__file__).parent / "benchmarks" / "bench_scale.py")
assert _spec is not None
assert _spec.loader is not None
bench_scale: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench_scale)


@pytest.mark.slow
@pytest.mark.parametrize("make", [bench_scale.repeated, bench_scale.random_skips], ids=["repeated", "random_skips"])
def test_ten_thousand_layers(make: Callable[[int], tenonrt.Network], capsys: pytest.CaptureFixture[str]) -> None:
    seconds = bench_scale.measure(lambda: make(LAYERS))
    times = ", ".join(f"{phase.strip()} {spent:.2f} s" for phase, spent in seconds.items())
    with capsys.disabled():
        print(f"\n{make.__name__}, {LAYERS:,} layers: {times}")  # noqa: T201
    assert {"define", "build", "save", "load", "first run"} <= seconds.keys()


@pytest.mark.parametrize("seed", range(3))
def test_a_random_network_computes_what_its_layers_mean(seed: int) -> None:
    """The same generator at 60 layers, against evaluation of each layer in float64 in the order of definition."""
    net = bench_scale.random_skips(60, seed)
    functions = {"relu": lambda v: np.maximum(v, 0), "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "tanh": np.tanh}
    operations = {"sum": np.add, "max": np.maximum}
    given = np.random.default_rng(seed).standard_normal((1, 4)).astype(np.float32)
    values: dict[Any, Any] = {net.inputs[0]: given.astype(np.float64)}
    for layer in net.layers:
        read = [values[t] for t in layer.inputs]
        kind = functions.get(getattr(layer.attrs, "function", "")) or operations[str(layer.attrs.operation)]
        values[layer.outputs[0]] = kind(*read)
    expected = {name: values[tensor] for name, tensor in net.outputs.items()}
    engine = tenonrt.Builder(tenonrt.BuilderConfig(optimization_level=0)).build(net)
    found = engine.create_context().execute({"x": given})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)
