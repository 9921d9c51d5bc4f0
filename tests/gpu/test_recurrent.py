"""LSTM and GRU on a GPU: every tactic tried as a build tries it, and near float64, not only within what is allowed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, try_tactic
from tenonrt.contracts import Array, Problem, Weights
from tenonrt.plugins.registry import Registry, using
from tenonrt_kernel_nvrtc.recurrent.kernel import RecurrentKernel

REGISTRY = Registry()
KERNEL = RecurrentKernel()


def weights(*shape: int) -> Any:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / max(1.0, float(shape[-1])) ** 0.5).astype(np.float32)


def layer(
    kind: str, steps: int, batch: int, features: int, hidden: int, *, states: bool = True, lengths: bool = False,
    **attrs: Any,
) -> Problem:  # fmt: skip
    directions, gates = 2 if attrs.get("direction") == "bidirectional" else 1, 4 if kind == "LSTM" else 3
    network, rows = tenonrt.Network("problem", REGISTRY), gates * hidden
    x = network.add_input("x", (steps, batch, features))
    given = [x, weights(directions, rows, features), weights(directions, rows, hidden), weights(directions, 2 * rows)]
    given.append(network.add_input("lengths", (batch,), "int32") if lengths else None)
    if states:
        count = 2 if kind == "LSTM" else 1
        given += [network.add_input(f"state{i}", (directions, batch, hidden)) for i in range(count)]
    if kind == "GRU":
        attrs["linear_before_reset"] = True
    for number, output in enumerate(network.add(kind, given, {"hidden_size": hidden, **attrs})):
        network.mark_output(output, f"y{number}")
    return pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem


@pytest.mark.parametrize(
    ("kind", "sizes", "attrs"),
    [
        ("LSTM", (64, 1, 256, 512), {}),
        ("LSTM", (9, 8, 512, 512), {"direction": "bidirectional"}),
        ("LSTM", (17, 128, 256, 512), {"direction": "reverse"}),
        ("LSTM", (30, 20, 64, 320), {"lengths": True, "direction": "bidirectional", "clip": 0.7}),
        ("LSTM", (5, 3, 8, 13), {"states": False, "input_forget": True}),
        ("LSTM", (1, 9, 40, 128), {}),
        ("LSTM", (12, 9, 64, 1024), {"lengths": True}),
        ("LSTM", (7, 4, 13, 64), {}),
        ("GRU", (40, 1, 256, 512), {}),
        ("GRU", (6, 2, 64, 1500), {}),
        ("GRU", (12, 70, 128, 256), {"direction": "bidirectional", "lengths": True}),
        ("GRU", (6, 5, 16, 100), {"states": False}),
    ],
    ids=str,
)
def test_layers(kind: str, sizes: tuple[int, ...], attrs: dict[str, Any]) -> None:
    judge(layer(kind, *sizes, **attrs))


@pytest.mark.parametrize(
    ("kind", "sizes", "count"),
    [
        ("LSTM", (64, 1, 256, 512), 2), ("LSTM", (64, 8, 256, 512), 2), ("LSTM", (9, 5, 64, 512), 3),
        ("LSTM", (20, 33, 128, 256), 4), ("GRU", (30, 3, 256, 384), 2),
    ],
    ids=str,
)  # fmt: skip
def test_stacks(kind: str, sizes: tuple[int, ...], count: int) -> None:
    """Layers with reshapes between them, whose clusters run side by side."""
    steps, batch, features, hidden = sizes
    network, gates = tenonrt.Network("stack", REGISTRY), 4 if kind == "LSTM" else 3
    x, attrs = network.add_input("x", (steps, batch, features)), {"linear_before_reset": True} if kind == "GRU" else {}
    for number in range(count):
        rows, width = gates * hidden, hidden if number else features
        given = [x, weights(1, rows, width), weights(1, rows, hidden), weights(1, 2 * rows)]
        x, *lasts = network.add(kind, given, {"hidden_size": hidden, **attrs})
        network.mark_output(lasts[-1], f"last{number}")
        if number < count - 1:
            x = network.add("Reshape", [x, np.array((steps, batch, hidden), np.int64)], {})[0]
    network.mark_output(x, "y")
    judge(pose(make_region(network.graph, network.graph.layers), "cuda", 1).problem)


def judge(problem: Problem) -> None:
    """Every tactic."""
    device = REGISTRY.device("cuda")
    with using(REGISTRY):
        support = KERNEL.supports(problem)
        assert support.ok, support.why
        samples = [Sample.draw(problem, REGISTRY.layer_type, 2, seed) for seed in range(2)]
        for tactic in KERNEL.tactics(problem):
            verdict, _ = try_tactic(KERNEL, problem, tactic, samples, REGISTRY.layer_type, device)
            assert verdict.ok, f"{tactic.key}: {verdict.why}"
            limit = 5e-3 if tactic.precision == "float16" else 4e-2
            assert deviation(problem, tactic, samples[0]) < limit, tactic.key


def deviation(problem: Problem, tactic: Any, sample: Sample) -> float:
    """The largest of all results from float64, in units of what is larger than 1, as cells can be."""
    import cupy

    code = KERNEL.compile(problem, tactic)
    packed = KERNEL.pack(code, Weights(tuple(sample.inputs[i] for i in problem.constants)))
    executable = KERNEL.bind(code, [cupy.asarray(a) for a in packed])
    inputs = [stored(sample.inputs[i], tactic.input_format(k).dtype) for k, i in enumerate(problem.activations)]
    types = [problem.types[i] for i in problem.outputs]
    outputs = [cupy.full(t.concrete({}), 7, tactic.output_format(k).dtype or "float32") for k, t in enumerate(types)]
    executable.launch(inputs, outputs, cupy.zeros(tactic.workspace, cupy.uint8), None)  # type: ignore[union-attr]
    cupy.cuda.get_current_stream().synchronize()
    found = [cupy.asnumpy(o).astype(np.float64) for o in outputs]
    return max(
        float((np.abs(a - b) / np.maximum(np.abs(b), 1)).max()) for a, b in zip(found, sample.expected, strict=True)
    )


def stored(values: Array, dtype: str | None) -> Any:
    import cupy

    return cupy.asarray(values.astype(dtype or values.dtype))
