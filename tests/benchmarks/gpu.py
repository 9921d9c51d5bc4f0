"""Networks on a GPU beside PyTorch's kernels for the same graph, row by row.

python tests/benchmarks/gpu.py --models FOLDER --results FOLDER [--seconds 500] [--compile] [--jax] ROW ...

A row is ``resnet50:8`` (FOLDER/resnet50-8.onnx in half precision), ``resnet50:8:bfloat16`` (PyTorch in it too, and
ours in half precision beside them), ``resnet50:8:tf32``, ``resnet50:8:float32`` (PyTorch as precise) or
``resnet50:8:int8`` (with ranges from FOLDER/resnet50.ranges). Each is measured in a process of its own and appended to
rows.jsonl, so that a limit of time or a failure loses nothing; rows that are there are left out.

Ours, PyTorch recorded into a CUDA graph and, with --compile, ``torch.compile`` are timed in turns by CUDA events;
PyTorch eager by itself. With --jax a graph of images is compiled by JAX as well and timed in turns with ours by the
host's clock, ten runs and their end at a time, for JAX has streams of its own. Errors are against PyTorch in single
precision: the largest deviation, in units of how far the reference moves between two inputs.

Ranges are made on a CPU, from random images of the model for one: noise.npz is
``numpy.savez("noise.npz", input=numpy.random.default_rng(0).standard_normal((4, 3, 224, 224), "float32"))``, then

    tenonrt build resnet50.onnx -o any.plan --int8 --calibrate noise.npz --calibrator min-max --opt-level 0
        --calibration-cache FOLDER/resnet50.ranges
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROUNDS, RUNS = 15, 10
_LEAST_SECONDS = 25  # of the time that is left, for a row to be begun


def measure(name: str, batch: int, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """One row."""
    import cupy
    import tenonrt

    path = options.models / f"{name}-{batch}.onnx"
    settings: dict[str, Any] = {"precision": precision}
    if precision == "int8":
        ranges = tenonrt.Calibration(None, "min-max", options.models / f"{name}.ranges")
        settings = {"precision": "best", "calibration": ranges}
    start = time.monotonic()
    common = {"device": "cuda", "timing_cache": options.results / "times.sqlite"}
    engine = tenonrt.compile(path, **common, **settings)
    row = {
        "name": name, "batch": batch, "precision": precision, "build": round(time.monotonic() - start, 1),
        "phases": engine.report.timings, "notes": engine.report.notes,
        "gpu": engine.registry.device("cuda").fingerprint()["model"],
    }  # fmt: skip
    row |= steps_of(engine)
    if options.plans:
        engine.save(options.results / f"{name}-{batch}-{precision}.plan")
    context, stream = engine.create_context(), cupy.cuda.Stream(non_blocking=True)
    runs: dict[str, Callable[[], object]] = {"ours": lambda: context.enqueue(stream=stream)}
    if precision == "bfloat16":
        half = tenonrt.compile(path, **common, precision="float16").create_context()
        runs["half"] = lambda: half.enqueue(stream=stream)
    try:
        torch_side = TorchSide(path, stream, options, precision)
        if options.peers:
            runs |= torch_side.runs()
            row["eager_ms"] = torch_side.eager_ms()
        row |= torch_side.errors(context, stream)
    except Exception as error:  # noqa: BLE001 - ours is measured whatever becomes of the peer
        row["torch"] = repr(error)[:300]
    row["gemm_us"] = gemm_microseconds(stream)
    for who, times in interleaved(runs, stream).items():
        row[f"{who}_ms"] = round(statistics.median(times), 5)
        row[f"{who}_min"] = round(min(times), 5)
    row["joules"] = joules(runs["ours"], stream)
    if options.jax:
        try:
            row |= beside_jax(path, runs["ours"], stream)
        except Exception as error:  # noqa: BLE001 - the other peers are kept
            row["jax"] = repr(error)[:300]
    return row


def steps_of(engine: Any) -> dict[str, Any]:
    """How many steps there are, and the seconds that their kernels were raced at, summed and by kernel."""
    kernels: dict[str, float] = defaultdict(float)
    for step in engine.report.steps:
        kernels[step.kernel.rpartition(":")[2]] += (step.seconds or 0.0) * 1e6
    return {
        "steps": len(engine.report.steps), "kernels_us": round(sum(kernels.values()), 1),
        "cost_us": round(engine.report.cost * 1e6, 1), "by_kernel_us": {k: round(v, 1) for k, v in kernels.items()},
    }  # fmt: skip


def interleaved(runs: dict[str, Callable[[], object]], stream: Any) -> dict[str, list[float]]:
    """Milliseconds of each, in turns."""
    import cupy

    found: dict[str, list[float]] = {who: [] for who in runs}
    for number in range(ROUNDS + 2):
        for who, run in runs.items():
            events = [cupy.cuda.Event() for _ in range(RUNS + 1)]
            events[0].record(stream)
            for event in events[1:]:
                run()
                event.record(stream)
            stream.synchronize()
            if number >= 2:
                found[who] += [cupy.cuda.get_elapsed_time(before, after) for before, after in pairwise(events)]
    return found


def beside_jax(path: Path, run: Callable[[], object], stream: Any) -> dict[str, float]:
    """Milliseconds of a run of ours and of JAX, in turns, where runs follow each other."""
    import onnx
    from jax_network import JaxNetwork

    model = onnx.load(path)
    network = JaxNetwork(model)
    (shape,) = ([d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input)
    placed = network.placed(np.random.default_rng(0).standard_normal(shape, np.float32))
    waits: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "ours_beside_jax": (run, lambda made: stream.synchronize()),
        "jax": (lambda: network(placed), lambda made: made.block_until_ready()),
    }
    found = defaultdict[str, list[float]](list)
    for number in range(ROUNDS + 2):
        for who, (begin, end) in waits.items():
            start = time.perf_counter()
            for _ in range(RUNS):
                made = begin()
            end(made)
            if number >= 2:
                found[who].append((time.perf_counter() - start) * 1e3 / RUNS)
    return {f"{who}_ms": round(statistics.median(times), 5) for who, times in found.items()}


def joules(run: Callable[[], object], stream: Any, seconds: float = 1.0) -> float | None:
    """Energy of one run, while runs follow each other."""
    from tenonrt_device_cuda.management import energy_joules

    first, start, count = energy_joules(), time.monotonic(), 0
    while time.monotonic() - start < seconds:
        for _ in range(20):
            run()
        stream.synchronize()
        count += 20
    last = energy_joules()
    return None if first is None or last is None else round((last - first) / count, 6)


def gemm_microseconds(stream: Any) -> float:
    """A fixed product of cuBLASLt, 4096 x 4096 x 4096 in half precision: figures of two runs compare where it does."""
    import torch

    a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.half) for _ in range(2))
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
        times = interleaved({"gemm": lambda: torch.matmul(a, b)}, stream)["gemm"]
    return round(statistics.median(times) * 1e3, 2)


def library_bert(dtype: Any) -> Any:
    """BERT-base as its library has it, with fused attention and, to its advantage, without a mask; random weights."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig()
    config._attn_implementation = "sdpa"
    model = BertModel(config, add_pooling_layer=False).eval().to("cuda", dtype)

    class Bert(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            hidden = self.model.embeddings(input_ids=ids, token_type_ids=types)
            for layer in self.model.encoder.layer:
                made = layer(hidden, None)
                hidden = made[0] if isinstance(made, tuple) else made
            return hidden

    return Bert()


def library_lstm(layers: int, dtype: Any) -> Any:
    """The stack of LSTMs as it is written in PyTorch, one call of cuDNN, and a product; random weights."""
    import torch

    class Stack(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = torch.nn.LSTM(256, 512, layers, batch_first=True)
            self.product = torch.nn.Linear(512, 1000)

        def forward(self, x: Any) -> Any:
            return self.product(self.stack(x)[0])

    return Stack().eval().to("cuda", dtype)


class TorchSide:
    """The same graph in PyTorch, beside int8 in float16; BERT and stacks of LSTMs are timed as libraries have them."""

    def __init__(self, path: Path, stream: Any, options: argparse.Namespace, precision: str) -> None:
        import onnx
        import torch
        from torch_network import TorchNetwork, images_innermost

        dtype = {"int8": "float16", "tf32": "float32"}.get(precision, precision)
        self.torch, self.options, self.dtype = torch, options, getattr(torch, dtype)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.model = onnx.load(path)
        self.own, self.stream = stream, torch.cuda.ExternalStream(stream.ptr)
        torch.backends.cudnn.benchmark = True
        self.narrow = images_innermost(TorchNetwork(self.model), self.dtype)
        self.given = self._feed("noise", self.dtype)
        stacked = sum(node.op_type == "LSTM" for node in self.model.graph.node)
        self.timed = library_lstm(stacked, self.dtype) if stacked else self.narrow
        if "input_ids" in self.narrow.inputs:
            self.timed = library_bert(self.dtype)

    def _feed(self, kind: str, dtype: Any) -> list[Any]:
        arrays = self._arrays(kind)
        tensors = [self.torch.from_numpy(arrays[name]).cuda() for name in self.narrow.inputs]
        made = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
        return [t.contiguous(memory_format=self.torch.channels_last) if t.ndim == 4 else t for t in made]

    def _arrays(self, kind: str) -> dict[str, Any]:
        """Inputs of the graph, drawn as for other runtimes."""
        from network_inputs import feed

        return feed(self, kind == "noise", smooth=kind == "smooth")

    def get_inputs(self) -> list[Any]:
        """The inputs as a session of onnxruntime describes them."""
        names = {1: "float", 6: "int32", 7: "int64", 9: "bool"}
        given = [i for i in self.model.graph.input if i.name in self.narrow.inputs]
        return [
            SimpleNamespace(
                name=i.name,
                type=f"tensor({names[i.type.tensor_type.elem_type]})",
                shape=[d.dim_value for d in i.type.tensor_type.shape.dim],
            )
            for i in given
        ]

    def runs(self) -> dict[str, Callable[[], object]]:
        """Recorded into a graph, and compiled where that is asked for."""
        torch = self.torch
        made: dict[str, Callable[[], object]] = {"graph": self._graph(self.timed)}
        if self.options.compile:
            compiled = torch.compile(self.timed, mode=self.options.mode)
            with torch.no_grad(), torch.cuda.stream(self.stream):
                for _ in range(3):
                    compiled(*self.given)
                torch.cuda.synchronize()
            made["compile"] = self._graph(compiled)
        return made

    def _graph(self, module: Any) -> Callable[[], object]:
        torch = self.torch
        with torch.no_grad(), torch.cuda.stream(self.stream):
            for _ in range(3):
                module(*self.given)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.stream):
                self._held = module(*self.given)

        def replay() -> None:
            with torch.cuda.stream(self.stream):
                graph.replay()

        return replay

    def eager_ms(self) -> float:
        torch = self.torch

        def run() -> None:
            with torch.no_grad(), torch.cuda.stream(self.stream):
                self.timed(*self.given)

        times = interleaved({"eager": run}, self.own)["eager"]
        return round(statistics.median(times), 4)

    def errors(self, context: Any, stream: Any) -> dict[str, float]:
        """Of ours and of PyTorch's narrow type, against PyTorch's single precision without TF32."""
        from network_inputs import disagreement
        from torch_network import TorchNetwork, images_innermost

        torch = self.torch
        torch.backends.cudnn.benchmark = False
        names = self.narrow.outputs
        with torch.no_grad():
            narrow = self._named(names, self.narrow(*self._feed("smooth", self.dtype)))
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            single = images_innermost(TorchNetwork(self.model), torch.float)
            smooth, noise = (self._named(names, single(*self._feed(k, torch.float))) for k in ("smooth", "noise"))
        ours = {k: np.asarray(v) for k, v in context.execute(self._arrays("smooth")).items()}
        return {"error": disagreement(ours, smooth, noise), "error_torch": disagreement(narrow, smooth, noise)}

    def _named(self, names: list[str], made: Any) -> dict[str, Any]:
        return {name: tensor.float().cpu().numpy() for name, tensor in zip(names, made, strict=True)}


def known_rows(file: Path) -> set[str]:
    """Those that were measured before."""
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {f"{r['name']}:{r['batch']}:{r['precision']}" for r in rows if "ours_ms" in r}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=500.0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--jax", action="store_true")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="errors only")
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--plans", action="store_true", help="keep the plans")
    parser.add_argument("--here", action="store_true", help="measure one row in this process")
    options = parser.parse_args()
    rows = [(*row.split(":"), "float16")[:3] for row in options.rows]
    if options.here:
        ((name, batch, precision),) = rows
        with (options.results / "rows.jsonl").open("a") as file:
            file.write(json.dumps(measure(name, int(batch), precision, options)) + "\n")
        return
    deadline = time.monotonic() + options.seconds
    for row in rows:
        text = ":".join(row)
        left = deadline - time.monotonic()
        if text in known_rows(options.results / "rows.jsonl") or left < _LEAST_SECONDS:
            print(f"{text}: {'known' if left >= _LEAST_SECONDS else 'no time left'}", flush=True)
            continue
        given = [a for a in sys.argv[1:] if a not in options.rows]
        start = time.monotonic()
        try:
            done = subprocess.run([sys.executable, __file__, *given, "--here", text], timeout=left, check=False)
            print(f"{text}: status {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
        except subprocess.TimeoutExpired:
            print(f"{text}: stopped after {left:.0f} s", flush=True)


if __name__ == "__main__":
    main()
