"""Plans of generated kernels, from the network to another process: what they compute, what they need, what repeats."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from tenonrt import Builder, BuilderConfig, Engine, Network, Registry
from tenonrt.plugins.selection import PluginSet

pytestmark = pytest.mark.xdist_group("llvm plans")

pytest.importorskip("llvmlite", reason="generates the kernels of these tests")

DEVICE, LLVM = "tenonrt-device-cpu", "tenonrt-kernel-llvm"
NATIVE = PluginSet(deny=("tenonrt-kernel-numpy",))
Array = np.ndarray[Any, Any]


def values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def kernels(engine: Engine) -> list[tuple[str, str, str]]:
    return [(step.name, step.kernel, step.tactic) for step in engine.report.steps]


# The networks, and what they compute in plain NumPy, which shares nothing with the layers' references -----------------

WEIGHTS = {
    "first": values(16, 3, 3, 3) / 5, "second": values(32, 16, 3, 3) / 12, "third": values(32, 32, 3, 3) / 17,
    "classes": values(10, 32) / 6, "wide": values(48, 20) / 5, "narrow": values(7, 48) / 7,
}  # fmt: skip
BIAS = {name: values(weights.shape[0], seed=1) for name, weights in WEIGHTS.items()}


def cnn(registry: Registry | None = None) -> Network:
    """Two convolutions, a residual block, pooling in windows and of whole images, and a classifier."""
    network = Network("cnn", registry or Registry())

    def convolution(x: Any, name: str) -> Any:
        padding = {"pre_padding": (1, 1), "post_padding": (1, 1)}
        return network.add_convolution(x, WEIGHTS[name], BIAS[name], **padding, name=name)

    x = network.add_activation(convolution(network.add_input("x", (2, 3, 16, 16)), "first"), function="relu")
    x = network.add_pooling(x, function="max", window=(2, 2), stride=(2, 2), name="pool")
    block = network.add_activation(convolution(x, "second"), function="relu")
    x = network.add_elementwise(convolution(block, "third"), block, operation="sum", name="residual")
    x = network.add_activation(x, function="relu", name="last")
    x = network.add_reduce(x, operation="mean", axes=(2, 3), keep_dims=False, name="mean")
    network.mark_output(network.add_fully_connected(x, WEIGHTS["classes"], BIAS["classes"], name="classes"), "y")
    return network


def cnn_answer(x: Array) -> Array:
    def convolution(x: Array, name: str) -> Array:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (3, 3), (2, 3))
        weights, bias = WEIGHTS[name].astype(float), BIAS[name].astype(float)
        return np.einsum("ncyxij,ocij->noyx", windows, weights) + bias[:, None, None]

    x = np.maximum(convolution(x.astype(float), "first"), 0)
    x = x.reshape(*x.shape[:2], 8, 2, 8, 2).max((3, 5))
    block = np.maximum(convolution(x, "second"), 0)
    x = np.maximum(convolution(block, "third") + block, 0).mean((2, 3))
    return x @ WEIGHTS["classes"].T.astype(float) + BIAS["classes"]


def mlp(registry: Registry | None = None) -> Network:
    network = Network("mlp", registry or Registry())
    x = network.add_fully_connected(network.add_input("x", (5, 20)), WEIGHTS["wide"], BIAS["wide"], name="wide")
    x = network.add_activation(x, function="tanh", name="bent")
    network.mark_output(network.add_fully_connected(x, WEIGHTS["narrow"], BIAS["narrow"], name="narrow"), "y")
    return network


def mlp_answer(x: Array) -> Array:
    hidden = np.tanh(x.astype(float) @ WEIGHTS["wide"].T.astype(float) + BIAS["wide"])
    return hidden @ WEIGHTS["narrow"].T.astype(float) + BIAS["narrow"]


NETWORKS: dict[str, tuple[Callable[..., Network], Callable[[Array], Array], Array]] = {
    "cnn": (cnn, cnn_answer, values(2, 3, 16, 16, seed=2)),
    "mlp": (mlp, mlp_answer, values(5, 20, seed=2)),
}


def answer(engine: Engine, name: str) -> Array:
    result: Array = engine.create_context().execute({"x": NETWORKS[name][2]})["y"]
    return result


@pytest.fixture(scope="module")
def timings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timings") / "timings"


@pytest.fixture(scope="module")
def timed(timings: Path) -> dict[str, Engine]:
    """Both networks, built as anybody would: whatever is installed competes. Once, since that is what takes time."""
    return {name: Builder(BuilderConfig(timing_cache=timings)).build(make()) for name, (make, _, _) in NETWORKS.items()}


@pytest.fixture(scope="module")
def native(timings: Path) -> dict[str, Engine]:
    """Both networks of generated kernels alone."""
    config = BuilderConfig(timing_cache=timings)
    return {name: Builder(config).build(make(Registry(NATIVE))) for name, (make, _, _) in NETWORKS.items()}


# What is computed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_what_wins_is_right(timed: dict[str, Engine], name: str) -> None:
    _, expected, x = NETWORKS[name]
    np.testing.assert_allclose(answer(timed[name], name), expected(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_generated_kernels_compete_for_every_contraction(timed: dict[str, Engine], name: str) -> None:
    """Whether they win is the clock's business; that they are offered, right and timed is not."""
    regions = timed[name].report.regions
    for layer in (layer.name for layer in NETWORKS[name][0]().layers if layer.name in WEIGHTS):
        rows = [c for r in regions if r.layers[0] == layer for c in r.candidates if c.kernel.startswith(LLVM)]
        assert any(c.error is not None and c.seconds is not None and not c.why for c in rows), layer


FRESH = """
import json, sys
import numpy as np
from tenonrt import Engine
y = Engine.load(sys.argv[1]).create_context().execute({"x": np.load(sys.argv[2])})["y"]
np.save(sys.argv[3], y)
print(json.dumps(sorted({"llvmlite", "highspy", "onnx"} & set(sys.modules))))
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_another_process_computes_the_same_bits_without_a_compiler(
    timed: dict[str, Engine], name: str, tmp_path: Path
) -> None:
    timed[name].save(tmp_path / "a.plan")
    np.save(tmp_path / "x.npy", NETWORKS[name][2])
    paths = [str(tmp_path / file) for file in ("a.plan", "x.npy", "y.npy")]
    done = subprocess.run([sys.executable, "-c", FRESH, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert np.load(tmp_path / "y.npy").tobytes() == answer(timed[name], name).tobytes()


# What plans need ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_plan_of_native_steps_needs_the_device_alone(native: dict[str, Engine], name: str, tmp_path: Path) -> None:
    engine = native[name]
    assert {step.kernel.partition(":")[0] for step in engine.report.steps} == {LLVM}
    assert [need.distribution for need in engine.header.requires] == [DEVICE]
    engine.save(tmp_path / "a.plan")
    alone = Registry(PluginSet(allow=(DEVICE,)))
    assert answer(Engine.load(tmp_path / "a.plan", registry=alone), name).tobytes() == answer(engine, name).tobytes()


# What is chosen -------------------------------------------------------------------------------------------------------


def large_convolution() -> Network:
    """One that Winograd's F(4x4, 3x3) is offered for, and nothing but Winograd's algorithm may compute."""
    plugins = PluginSet(deny=("tenonrt-kernel-numpy", f"{LLVM}:cpu/Convolution.llvm_[!w]*"))
    network = Network("large", Registry(plugins))
    x = network.add_input("x", (1, 32, 24, 24))
    made = network.add_convolution(x, values(32, 32, 3, 3) / 17, pre_padding=(1, 1), post_padding=(1, 1), name="large")
    network.mark_output(made, "y")
    return network


def test_reduced_accuracy_is_used_only_where_it_is_allowed() -> None:
    def built(allowed: bool) -> Engine:
        """The tolerance is wide, so that nothing but the configuration forbids the rough algorithm."""
        engine = Builder(BuilderConfig(allow_inexact=allowed, tolerance=1.0)).build(large_convolution())
        [region] = [r for r in engine.report.regions if r.layers == ("large",)]
        rough = [c for c in region.candidates if c.tactic.startswith(("fused4", "phased4"))]
        assert rough, "this test needs a convolution for which the rough algorithm is offered"
        assert all(("its accuracy is reduced" in c.why) != allowed for c in rough)
        return engine

    assert all(code.tactic.exact for code in built(False).plan.codes)
    built(True)


# What repeats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recorded_choice_gives_the_same_kernels_and_bits(timed: dict[str, Engine], name: str) -> None:
    engine = timed[name]
    again = Builder(BuilderConfig(replay=engine.choice)).build(NETWORKS[name][0]())
    assert kernels(again) == kernels(engine)
    assert answer(again, name).tobytes() == answer(engine, name).tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_share_the_work_and_change_no_bit(
    native: dict[str, Engine], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = answer(native[name], name)
    monkeypatch.setenv("TENONRT_NUM_THREADS", "2")
    shared = Engine(native[name].plan, native[name].registry)
    assert answer(shared, name).tobytes() == alone.tobytes()
