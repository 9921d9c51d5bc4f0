"""What running costs beside computing: 200 alternating Add and Relu layers on 4 elements, in turns with the peers.

    uv run --group bench python tests/benchmarks/chain.py [--layers 200] [--elements 4] [--threads 1] [--seconds 6]

All runtimes get the same ONNX model in one process; a call is from Python to Python. The ratio is the better median of
onnxruntime and OpenVINO over ours.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from cpu import PEERS, RUNTIMES, race, summary
from onnx import TensorProto, helper, numpy_helper


def chain(layers: int, elements: int) -> onnx.ModelProto:
    """Add, Relu, Add, ... with a constant of its own for each Add, so that none of them can be left out."""
    nodes, constants, rng = [], [], np.random.default_rng(0)
    for i in range(layers):
        given, made = f"t{i}", f"t{i + 1}"
        if i % 2:
            nodes.append(helper.make_node("Relu", [given], [made]))
        else:
            constants.append(numpy_helper.from_array(rng.standard_normal(elements).astype(np.float32), f"c{i}"))
            nodes.append(helper.make_node("Add", [given, f"c{i}"], [made]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [elements]) for name in ("t0", f"t{layers}")]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main() -> None:
    """Build, compare the results, race, print microseconds."""
    import tenonrt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=200)
    parser.add_argument("--elements", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:  # as cpu.py says
        os.environ["OPENBLAS_THREAD_TIMEOUT"] = "16"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    with tempfile.TemporaryDirectory() as folder:
        model, plan = Path(folder, "chain.onnx"), Path(folder, "chain.plan")
        onnx.save(chain(options.layers, options.elements), model)
        engine = tenonrt.compile(model, threads=options.threads)
        engine.save(plan)
        shapes = {"t0": (options.elements,)}
        files = {name: plan if name == "tenonrt" else model for name in RUNTIMES}
        runs = {name: make(files[name], options.threads, shapes) for name, make in RUNTIMES.items()}
        given = {"t0": np.linspace(-1, 1, options.elements, dtype=np.float32)}
        expected = next(iter(runs["onnxruntime"](given).values()))
        for name, run in runs.items():
            np.testing.assert_allclose(next(iter(run(given).values())), expected, 1e-5, 1e-5, err_msg=name)
        found = {name: summary(times) for name, times in race(runs, given, options.seconds).items()}
    print(f"{options.layers} layers on {options.elements} elements, {len(engine.report.steps)} steps here")
    for name, row in found.items():
        times = (row[key] * 1e3 for key in ("median_ms", "p10_ms", "p90_ms"))
        print("  {:12}{:8.1f} us [{:.1f} {:.1f}]".format(name, *times))
    print(f"  ratio {min(found[name]['median_ms'] for name in PEERS) / found['tenonrt']['median_ms']:.2f}")


if __name__ == "__main__":
    main()
