"""Whole networks against onnxruntime: made-up ones of the shapes that exporters write, and the real ones.

The measure is that of agreement between runtimes: networks with random weights answer alike to inputs that are alike,
so a deviation counts in units of how far the reference moves between two inputs of different structure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt import Engine, ExecutionContext

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

HERE = Path(__file__).parent
NETWORKS = ("lenet", "residual", "inverted", "squeezed", "inception", "detector", "encoder", "recurrent")
# Both dialects of a network by one worker: what the first has timed need not be timed for the second.
GROUPED = [pytest.param(name, marks=pytest.mark.xdist_group(f"network {name}")) for name in NETWORKS]
AGREEMENT = 5e-5  # the deepest of them moves float32 runtimes apart by 1.4e-5
REAL_AGREEMENT = 2e-3
Array = np.ndarray[Any, Any]
Feed = dict[str, Array]


def disagreement(found: Mapping[str, Array], reference: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """max |y - ref| over max |ref - ref of the other feed|, the worst of all outputs; infinite where y is NaN."""
    worst = 0.0
    for name, expected in reference.items():
        moved = np.abs(expected.astype(np.float64) - other[name]).max()
        deviation = np.abs(found[name].astype(np.float64) - expected).max()
        worst = max(worst, np.inf if np.isnan(deviation) else float(deviation / max(moved, 1e-30)))
    return worst


def feed(inputs: Any, batch: int, *, smooth: bool, seed: int = 0) -> Feed:
    """Noise, or patches with a little noise; token ids, a mask that hides a tail, and token types."""
    rng = np.random.default_rng(seed)
    made = {}
    for value in inputs:
        kind = value.type.tensor_type
        shape = [d.dim_value or batch for d in kind.shape.dim]
        if kind.elem_type == onnx.TensorProto.FLOAT:
            x = rng.standard_normal(shape)
            if smooth and len(shape) == 4:
                rows, columns = -(-shape[2] // 4), -(-shape[3] // 4)
                patches = 2 * rng.standard_normal((*shape[:2], 4, 4)) + rng.standard_normal((*shape[:2], 1, 1))
                x = patches.repeat(rows, 2).repeat(columns, 3)[:, :, : shape[2], : shape[3]] + 0.1 * x
            elif smooth:
                x = 0.1 * x + np.sin(np.arange(shape[-1]))
            made[value.name] = x.astype(np.float32)
        elif "mask" in value.name:
            lengths = rng.integers(shape[1] // 2, shape[1] + 1, shape[0])
            made[value.name] = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
        else:
            made[value.name] = rng.integers(0, 2 if "type" in value.name else 50, shape)
    return made


def reference(session: Any, given: Feed) -> Feed:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.fixture(scope="module")
def writer() -> Iterator[Any]:
    """The module that the network files import by name."""
    sys.path.insert(0, str(HERE))
    yield import_module("networks.writer")
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def timings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks share problems: their kernels are tried and timed once."""
    return tmp_path_factory.mktemp("timings") / "cache"


def engines(network: str, folder: Path, writer: Any, dialect: str, timings: Path) -> Iterator[tuple[str, Any, Engine]]:
    """(what it is, the model, the engine), for batch 1 and a symbolic one.

    Level 3 is tried at one batch in each dialect, so that every two of dialect, batch and level meet: what kernels are
    asked for depends on the batch, and hardly on the dialect.
    """
    build = import_module(f"networks.{network}").build
    tuned = "batch" if dialect == "traced" else 1
    for batch in (1, "batch"):
        made = writer.Writer(network, dialect, batch)
        build(made)
        path = folder / f"{network}-{batch}.onnx"
        onnx.save(made.model(), path)
        for level in (0, 3) if batch == tuned else (0,):
            engine = tenonrt.compile(path, optimization_level=level, timing_cache=timings)
            yield f"{network}-{batch}-{level}", onnx.load(path), engine


@pytest.mark.parametrize("dialect", ["traced", "exported"])
@pytest.mark.parametrize("network", GROUPED)
def test_synthetic(network: str, dialect: str, writer: Any, timings: Path, tmp_path: Path) -> None:
    answers: dict[str, dict[str, Array]] = {}
    for name, model, engine in engines(network, tmp_path, writer, dialect, timings):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        context = ExecutionContext(engine)
        feeds, answers[name] = {}, {}
        for batch in (1, 3, 2) if "batch" in name else (1,):
            smooth, noise = (feed(model.graph.input, batch, smooth=flag, seed=batch + flag) for flag in (True, False))
            found, expected = context.execute(smooth), reference(session, smooth)
            assert disagreement(found, expected, reference(session, noise)) <= AGREEMENT, (name, batch)
            feeds |= {f"{batch}/{key}": value for key, value in smooth.items()}
            answers[name] |= {f"{batch}/{key}": value for key, value in found.items()}
        engine.save(tmp_path / f"{name}.plan")
        np.savez(tmp_path / f"{name}.npz", **feeds)
    subprocess.run([sys.executable, str(HERE / "networks" / "load_plans.py"), str(tmp_path)], check=True)
    for name, given in answers.items():
        with np.load(tmp_path / f"{name}.out.npz") as loaded:
            assert set(loaded.files) == set(given)
            for key, value in given.items():
                np.testing.assert_array_equal(loaded[key], value, err_msg=f"{name}: {key}")


# the real ones -------------------------------------------------------------------------------------------------------

MODELS = HERE.parents[1] / "shared" / "models"
REAL = sorted(path.name.removesuffix(".graph.onnx") for path in MODELS.glob("*.graph.onnx"))
LARGE = {"bert_base", "yolov8n"}
CHAOTIC = {"efficientnet_b0"}

real = pytest.mark.parametrize(
    "network", REAL or [pytest.param("", marks=pytest.mark.skip("no networks beside the checkout"))]
)


@pytest.fixture
def materialized(network: str, tmp_path: Path) -> Iterator[Path]:
    """The model with its weights drawn, for as long as the test takes."""
    if network in LARGE and os.environ.get("TENONRT_ALL_NETWORKS") != "1":
        pytest.skip("takes minutes; TENONRT_ALL_NETWORKS=1 runs it")
    script = str(MODELS / "materialize.py")
    subprocess.run([sys.executable, script, str(tmp_path), network], check=True, capture_output=True)
    path = tmp_path / f"{network}.onnx"
    yield path
    path.unlink()


def in_float64(path: Path, given: Feed) -> Feed:
    """The network by the references of its layers, in float64."""
    graph = tenonrt.parse(path).graph
    values: dict[Any, Array] = {tensor: given[tensor.name].astype(np.float64) for tensor in graph.inputs}

    def value(tensor: Any) -> Array | None:
        if tensor is None or tensor.constant is None:
            return None if tensor is None else values[tensor]
        return tensor.constant.astype(np.float64) if tensor.constant.dtype == np.float32 else tensor.constant

    for layer in graph.layers:
        results = layer.layer_type.reference(layer.attrs, [value(tensor) for tensor in layer.inputs], None)
        values.update(zip(layer.outputs, results, strict=True))
    return {name: values[tensor] for name, tensor in graph.outputs.items()}


@pytest.mark.slow
@real
def test_real(network: str, materialized: Path) -> None:
    session = onnxruntime.InferenceSession(str(materialized), providers=["CPUExecutionProvider"])
    context = ExecutionContext(tenonrt.compile(materialized, optimization_level=0))
    inputs = onnx.load(materialized, load_external_data=False).graph.input
    if network in CHAOTIC:
        pairs = [_distances(materialized, session, context, inputs, seed) for seed in range(8)]
        own, others = np.median(pairs, axis=0)
        assert own <= 4 * others
        return
    smooth, noise = (feed(inputs, 1, smooth=flag, seed=flag) for flag in (True, False))
    assert (
        disagreement(context.execute(smooth), reference(session, smooth), reference(session, noise)) <= REAL_AGREEMENT
    )


def _distances(path: Path, session: Any, context: ExecutionContext, inputs: Any, seed: int) -> tuple[float, float]:
    """How far TenonRT and onnxruntime are from float64: rounding alone moves this network by 1e-6 to 2e-2."""
    smooth, noise = (feed(inputs, 1, smooth=flag, seed=2 * seed + flag) for flag in (True, False))
    exact, other = in_float64(path, smooth), reference(session, noise)
    found, expected = context.execute(smooth), reference(session, smooth)
    return disagreement(found, exact, other), disagreement(expected, exact, other)
