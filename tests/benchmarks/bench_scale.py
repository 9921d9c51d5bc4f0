"""Seconds per phase of building networks of 1,000 and 10,000 layers, through `Network` and from an ONNX file.

python tests/benchmarks/bench_scale.py [layers ...] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tenonrt


def repeated(layers: int) -> tenonrt.Network:
    """Blocks of convolution, activation and sum with what entered the block; small weights keep the sums finite."""
    net, rng = tenonrt.Network(f"repeated{layers}"), np.random.default_rng(0)
    weights = [rng.standard_normal((2, 2, 1, 1)).astype(np.float32) * 1e-4 for _ in range(4)]
    x = net.add_input("x", (1, 2, 2, 2))
    while len(net.graph) < layers:
        y = net.add_convolution(x, weights[len(net.graph) % 4])
        y = net.add_activation(y, function="relu")
        x = net.add_elementwise(y, x, operation="sum")
    net.mark_output(x, "y")
    return net


def random_skips(layers: int, seed: int = 0) -> tenonrt.Network:
    """Activations and sums with tensors from up to 50 layers before, seeded."""
    net, rng = tenonrt.Network(f"skips{layers}"), random.Random(seed)
    tensors: list[Any] = [net.add_input("x", (1, 4))]
    while len(net.graph) < layers:
        recent = tensors[-50:]
        if rng.random() < 0.5:
            tensors.append(net.add_activation(rng.choice(recent), function=rng.choice(["relu", "sigmoid", "tanh"])))
        else:
            tensors.append(net.add_elementwise(rng.choice(recent), tensors[-1], operation=rng.choice(["sum", "max"])))
    read = {t for layer in net.layers for t in layer.inputs}
    for number, tensor in enumerate(t for t in tensors if t not in read):
        net.mark_output(tensor, f"y{number}")
    return net


def onnx_file(layers: int, folder: Path) -> Path:
    """The repeated blocks as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes, name, rng = [], "x", np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((2, 2, 1, 1)).astype(np.float32) * 1e-4, "w")
    for i in range(layers // 3):
        nodes.append(helper.make_node("Conv", [name, "w"], [f"c{i}"], f"conv{i}"))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"))
        nodes.append(helper.make_node("Add", [f"r{i}", name], [f"a{i}"], f"add{i}"))
        name = f"a{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2, 2, 2]) for n in ("x", name)]
    graph = helper.make_graph(nodes, "blocks", ends[:1], ends[1:], [weights])
    path = folder / "blocks.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def measure(make: Any) -> dict[str, float]:
    """Seconds of: defining, each phase of the build, saving, loading, the first and the second run."""
    seconds: dict[str, float] = {}

    def timed(phase: str, call: Any) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[phase] = time.perf_counter() - start
        return result

    net = timed("define", make)
    engine = timed("build", lambda: tenonrt.Builder(tenonrt.BuilderConfig(optimization_level=0)).build(net))
    seconds |= {f"  {phase}": spent for phase, spent in engine.report.timings.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scale.plan"
        timed("save", lambda: engine.save(path))
        loaded = timed("load", lambda: tenonrt.Engine.load(path))
        context = timed("context", loaded.create_context)
        inputs = {b.name: np.ones(b.type.concrete({}), b.type.dtype) for b in loaded.bindings if b.is_input}
        timed("first run", lambda: context.execute(inputs))
        timed("second run", lambda: context.execute(inputs))
    return seconds


def onnx_network(layers: int) -> tenonrt.Network:
    with tempfile.TemporaryDirectory() as folder:
        return tenonrt.parse(onnx_file(layers, Path(folder)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("layers", nargs="*", type=int, default=[1000, 10_000])
    arguments.add_argument("--profile", action="store_true", help="print the costliest functions of each build")
    options = arguments.parse_args()
    for make in (repeated, random_skips, onnx_network):
        columns = {}
        for layers in options.layers:
            profile = cProfile.Profile()
            if options.profile:
                profile.enable()
            columns[layers] = measure(lambda make=make, layers=layers: make(layers))
            profile.disable()
            if options.profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        print(f"\n{make.__name__:24}" + "".join(f"{layers:>12,}" for layers in options.layers) + "   growth")
        first, last = columns[options.layers[0]], columns[options.layers[-1]]
        for phase in first:
            row = "".join(f"{columns[layers].get(phase, 0.0):12.3f}" for layers in options.layers)
            print(f"{phase:24}{row}   {last.get(phase, 0.0) / max(first[phase], 1e-9):.1f}x")


if __name__ == "__main__":
    main()
