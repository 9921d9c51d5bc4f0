"""Whole networks on the CPU beside onnxruntime and OpenVINO, in one process, in turns; torch.compile where asked for.

uv run --group bench python tests/benchmarks/cpu.py MODEL.onnx ... [--threads 2] [--batch 1] [--json F] [--torch]

A turn is a pause and a run that is not timed, in which the threads that the previous runtime left spinning come to
rest, then as many timed runs as fit in a twentieth of a second.
The ratio is the better median of onnxruntime and OpenVINO over ours. OpenVINO computes in float32 unless --precision
says otherwise: left alone it takes bfloat16 where the processor has it. The floor is the arithmetic of matrix products
and convolutions at the measured peak of float32, so more than 100 % says that an algorithm (Winograd) saved arithmetic,
or bfloat16 did it faster. Memory and loading are measured in processes of each runtime in turns (--processes, medians),
with Python's modules compiled: ours loads a saved plan, the others make a session from the model. Importing the runtime
is timed apart; ours imports most of itself when it loads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from network_inputs import disagreement, feed

Feed = dict[str, np.ndarray[Any, Any]]
Run = Callable[[Feed], Feed]
_TURN_SECONDS = 0.05
PEERS = ("onnxruntime", "openvino")
# By the name of the file; their weights are random, so only the time counts.
TORCH_MODELS = {"resnet50": "resnet50", "mobilenetv2": "mobilenet_v2", "googlenet": "googlenet"}
PEAK = """
import time, numpy
a, b = (numpy.random.default_rng(i).standard_normal((1536, 1536), numpy.float32) for i in (0, 1))
c, best = numpy.empty_like(a), 1e9
for _ in range(24):
    start = time.perf_counter(); numpy.matmul(a, b, out=c); best = min(best, time.perf_counter() - start)
print(2 * 1536**3 / best)
"""


# runtimes -------------------------------------------------------------------------------------------------------------


def onnxruntime_session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_onnxruntime(path: Path, threads: int, shapes: dict[str, tuple[int, ...]]) -> Run:
    session = onnxruntime_session(path, threads)
    names = [output.name for output in session.get_outputs()]
    return lambda given: dict(zip(names, session.run(names, given), strict=True))


def run_openvino(path: Path, threads: int, shapes: dict[str, tuple[int, ...]], precision: str = "float32") -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(given: Feed) -> Feed:
        results = request.infer(given, share_inputs=True)
        return {key.get_any_name(): value for key, value in results.items()}

    return run


def run_tenonrt(path: Path, threads: int, shapes: dict[str, tuple[int, ...]]) -> Run:
    """``path``: a saved plan."""
    import tenonrt

    return tenonrt.Engine.load(path).create_context().execute


def run_torch(path: Path, threads: int, shapes: dict[str, tuple[int, ...]]) -> Run | None:
    """torch.compile of torchvision's model of the file's name; None where there is none, or no torch."""
    name = TORCH_MODELS.get(path.stem)
    if name is None or find_spec("torch") is None or find_spec("torchvision") is None:
        return None
    import torch
    import torchvision

    torch.set_num_threads(threads)
    compiled = torch.compile(getattr(torchvision.models, name)(weights=None).eval())

    def run(given: Feed) -> Feed:
        with torch.inference_mode():
            (value,) = given.values()
            return {"output": compiled(torch.from_numpy(value)).numpy()}

    return run


RUNTIMES = {"tenonrt": run_tenonrt, "onnxruntime": run_onnxruntime, "openvino": run_openvino}


# measuring ------------------------------------------------------------------------------------------------------------


def race(runs: dict[str, Run], given: Feed, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each runtime, in turns, for as long as ``seconds`` for all of them."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(given)
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times["tenonrt"]) < 5:
        for name, run in runs.items():
            time.sleep(0.01)
            run(given)
            turn = start = time.perf_counter()
            while start - turn < _TURN_SECONDS:
                run(given)
                end = time.perf_counter()
                times[name].append((end - start) * 1e3)
                start = end
    return times


def summary(times: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(times, [10, 50, 90])
    return {"median_ms": float(middle), "p10_ms": float(low), "p90_ms": float(high), "runs": len(times)}


def measured_peak(threads: int) -> float:
    """Multiply-adds of float32 a second, counted as two operations, of a large product in a process of its own."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    found = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, env=environment
    )  # fmt: skip
    return float(found.stdout)


def product_flops(path: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    """The arithmetic of a network's contractions, as the layer types state it."""
    import tenonrt
    from tenonrt.dims import evaluate
    from tenonrt.graph.shaping import specialise_inputs

    graph = tenonrt.parse(path).graph
    specialise_inputs(graph, None, shapes)
    total = 0
    for layer in graph.layers:
        if layer.layer_type.pattern == "contraction":
            infos = [None if t is None else t.info for t in layer.inputs]
            total += evaluate(layer.layer_type.flops(layer.attrs, infos, [t.info for t in layer.outputs]), {})
    return total


def peak_kib() -> int:
    """Of this process alone: getrusage also counts what its parent had when it made it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def probe(runtime: str, path: Path, threads: int, folder: Path) -> None:
    """In a process of its own: load, run once, and print what that took. numpy is there already, for all alike."""
    given = dict(np.load(folder / "feed.npz"))
    shapes = {name: array.shape for name, array in given.items()}
    start = time.perf_counter()
    import_module(runtime)
    imported = time.perf_counter()
    run = RUNTIMES[runtime](path, threads, shapes)
    loaded = time.perf_counter()
    run(given)
    found = {
        "import_s": imported - start,
        "load_s": loaded - imported,
        "first_run_s": time.perf_counter() - loaded,
        "rss_mib": peak_kib() / 1024,
    }
    print(json.dumps(found))


def probed(runtime: str, path: Path, threads: int, folder: Path) -> dict[str, float]:
    """What `probe` prints in a process that is started for it."""
    command = [sys.executable, __file__, str(path), "--probe", runtime, str(folder), "--threads", str(threads)]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ran.returncode:
        raise SystemExit(f"{runtime} failed in a process of its own:\n{ran.stderr}")
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def loads(files: dict[str, Path], threads: int, folder: Path, processes: int) -> dict[str, dict[str, float]]:
    """Medians over processes of each runtime, in turns; the first of each compiles its modules and does not count."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in files}
    for _ in range(processes + 1):
        for name, file in files.items():
            turns[name].append(probed(name, file, threads, folder))
    return {
        name: {key: statistics.median(turn[key] for turn in found[1:]) for key in found[0]}
        for name, found in turns.items()
    }


def fixed_inputs(session: Any, batch: int) -> Any:
    """What `feed` asks a session: its inputs, an open first dimension set to ``batch``, other open ones to 1."""
    inputs = []
    for given in session.get_inputs():
        shape = [size if isinstance(size, int) else batch if axis == 0 else 1 for axis, size in enumerate(given.shape)]
        if batch > 1 and shape and shape[0] != batch:
            raise SystemExit(f"input {given.name!r} has the fixed shape {shape}: export the model with an open batch")
        inputs.append(SimpleNamespace(name=given.name, type=given.type, shape=shape))
    return SimpleNamespace(get_inputs=lambda: inputs)


def measure(path: Path, options: argparse.Namespace, peak: float, folder: Path) -> dict[str, Any]:
    """Everything about one model."""
    import tenonrt

    inputs = fixed_inputs(onnxruntime_session(path, options.threads), options.batch)
    smooth, noise = feed(inputs, 0, smooth=True), feed(inputs, 1, smooth=False)
    shapes = {name: array.shape for name, array in smooth.items()}
    np.savez(folder / "feed.npz", **smooth)  # type: ignore[arg-type]
    start = time.perf_counter()
    engine = tenonrt.compile(
        path, threads=options.threads, shapes=shapes, optimization_level=options.level, precision=options.precision,
        timing_cache=options.timing_cache,
    )  # fmt: skip
    build = time.perf_counter() - start
    plan = folder / f"{path.stem}.plan"
    engine.save(plan)
    runs = {name: make(plan if name == "tenonrt" else path, options.threads, shapes) for name, make in RUNTIMES.items()}
    if options.precision != "float32":
        runs["openvino"] = run_openvino(path, options.threads, shapes, options.precision)
    expected, other = runs["onnxruntime"](smooth), runs["onnxruntime"](noise)
    errors = {name: disagreement(run(smooth), expected, other) for name, run in runs.items()}
    torch_run = run_torch(path, options.threads, shapes) if options.torch else None
    if torch_run is not None:
        runs["torch"] = torch_run
    runtimes: dict[str, Any] = {n: summary(t) for n, t in race(runs, smooth, options.seconds).items()}
    files = {name: plan if name == "tenonrt" else path for name in RUNTIMES}
    for name, loaded in loads(files, options.threads, folder, options.processes).items():
        runtimes[name] |= {"error": errors[name], **loaded}
    floor = product_flops(path, shapes) / peak * 1e3
    for found in runtimes.values():
        found["floor_percent"] = 100 * floor / found["median_ms"]
    return {
        "model": path.stem, "threads": options.threads, "batch": options.batch, "level": options.level,
        "ratio": min(runtimes[name]["median_ms"] for name in PEERS) / runtimes["tenonrt"]["median_ms"],
        "floor_ms": floor, "peak_gflops": peak * 1e-9, "build_s": build, "plan_mib": plan.stat().st_size / 2**20,
        "phases_s": dict(engine.report.timings), "notes": list(engine.report.notes), "runtimes": runtimes,
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['model']}: ratio {found['ratio']:.2f}   (threads {found['threads']}, batch {found['batch']}, "
        f"floor {found['floor_ms']:.2f} ms at {found['peak_gflops']:.0f} GFLOP/s)"
    )
    for name, row in found["runtimes"].items():
        times = f"{row['median_ms']:9.2f} ms [{row['p10_ms']:.2f} {row['p90_ms']:.2f}]  {row['floor_percent']:5.1f} %"
        rest = ""
        if "rss_mib" in row:
            spent = f"import {row['import_s']:.3f} load {row['load_s']:.3f} s"
            rest = f"  error {row['error']:7.1e}  {row['rss_mib']:6.0f} MiB  {spent}"
        print(f"  {name:12}{times}{rest}")
    phases = ", ".join(f"{phase} {spent:.2f}" for phase, spent in found["phases_s"].items())
    print(f"  built in {found['build_s']:.1f} s ({phases}); plan {found['plan_mib']:.1f} MiB")
    for note in found["notes"]:
        print(f"    {note}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of racing, for each model")
    parser.add_argument("--processes", type=int, default=5, help="of each runtime, to measure loading and memory in")
    parser.add_argument("--peak", type=float, help="GFLOP/s of float32 multiply-adds; measured when not given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--precision", default="float32", help="others than float32: OpenVINO computes in bfloat16")
    parser.add_argument("--timing-cache", type=Path)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--probe", nargs=2, metavar=("RUNTIME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:
        # NumPy's BLAS would spin for a tenth of a second after each of our runs, in the others' turns. It reads this
        # when it is loaded.
        os.environ["OPENBLAS_THREAD_TIMEOUT"] = "16"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if options.probe:
        probe(options.probe[0], options.models[0], options.threads, Path(options.probe[1]))
        return
    peak = options.peak * 1e9 if options.peak else measured_peak(options.threads)
    results = []
    for path in options.models:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(path, options, peak, Path(folder)))
        show(results[-1])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
