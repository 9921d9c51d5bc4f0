"""Quantized networks beside onnxruntime and OpenVINO, in one process, in turns, with agreement with the fp32 outputs.

uv run --group bench python tests/benchmarks/int8.py MODEL.onnx ... --folder F [--forms u8 s8 calibrated] [--threads 2]

Forms: ``u8`` and ``s8`` are QDQ models that onnxruntime's quantizer makes, per channel, with activations of that type,
from random samples; ``qu8`` and ``qs8`` the same in QLinear operators, which OpenVINO does not read; ``calibrated`` is
the fp32 model with ranges from our min-max calibrator and the same samples, raced against the peers' better form.
Models, plans and times stay in the folder, so that a second call only races.

The error is bench_networks.py's against onnxruntime's fp32 outputs, its mean over --inputs pairs of inputs. Runtimes
round different numbers, so single errors scatter: beside a peer's is how much less ours is, with the standard error of
that difference over the inputs.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from bench_networks import disagreement, feed
from cpu import RUNTIMES, Run, fixed_inputs, onnxruntime_session, race

PEERS = ("onnxruntime", "openvino")
SAMPLES = 4


def samples(path: Path, threads: int) -> list[dict[str, Any]]:
    inputs = fixed_inputs(onnxruntime_session(path, threads), 1)
    return [feed(inputs, seed, smooth=seed % 2 == 1) for seed in range(SAMPLES)]


def quantized_model(path: Path, form: str, options: argparse.Namespace) -> Path:
    """The QDQ model of a form."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    target: Path = options.folder / f"{path.stem}.{form}.onnx"
    if target.exists():
        return target

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(samples(path, options.threads))

        def get_next(self) -> dict[str, Any] | None:
            return next(self.left, None)

    kind = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[form.removeprefix("q")]
    operators = QuantFormat.QOperator if form.startswith("q") else QuantFormat.QDQ
    quantize_static(
        path, target, Reader(), quant_format=operators, per_channel=True, activation_type=kind,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return target


def plan_of(path: Path, form: str, options: argparse.Namespace) -> Path:
    """Our plan of a form, built where there is none yet."""
    import tenonrt

    target: Path = options.folder / f"{path.stem}.{form}.plan"
    if target.exists() and not options.rebuild:
        return target
    settings: dict[str, Any] = {
        "threads": options.threads, "timing_cache": options.folder / "times.db", "optimization_level": options.level,
    }  # fmt: skip
    if form == "calibrated":
        settings |= {
            "precision": "int8",
            "calibration": tenonrt.Calibration(samples(path, options.threads), "min-max"),
        }
    tenonrt.compile(path if form == "calibrated" else quantized_model(path, form, options), **settings).save(target)
    return target


def measure(path: Path, form: str, options: argparse.Namespace) -> None:
    peer_form = "u8" if form == "calibrated" else form
    model, plan = quantized_model(path, peer_form, options), plan_of(path, form, options)
    inputs = fixed_inputs(onnxruntime_session(path, options.threads), 1)
    pairs = [(feed(inputs, 9 + i, smooth=True), feed(inputs, 90 + i, smooth=False)) for i in range(options.inputs)]
    shapes = {name: array.shape for name, array in pairs[0][0].items()}
    runs: dict[str, Run] = {
        name: make(plan if name == "tenonrt" else model, options.threads, shapes)
        for name, make in RUNTIMES.items()
        if not (name == "openvino" and form.startswith("q"))
    }
    real = RUNTIMES["onnxruntime"](path, options.threads, shapes)
    errors: dict[str, list[float]] = {name: [] for name in runs}
    for smooth, noise in pairs:
        expected, other = real(smooth), real(noise)
        for name, run in runs.items():
            found = dict(zip(expected, run(smooth).values(), strict=True))
            errors[name].append(disagreement(found, expected, other))
    times = race(runs, pairs[0][0], options.seconds)
    floor, middle = ({name: np.percentile(t, share) for name, t in times.items()} for share in (10, 50))
    ratios = [min(t[name] for name in PEERS if name in t) / t["tenonrt"] for t in (floor, middle)]
    print(
        f"{path.stem} {form}: ratio {ratios[0]:.2f} of tenths, {ratios[1]:.2f} of medians (threads {options.threads})"
    )
    for name in runs:
        print(f"  {name:12}{middle[name]:8.2f} ms [{floor[name]:.2f}]  error {np.mean(errors[name]):.4f}", end="")
        less = np.subtract(errors[name], errors["tenonrt"])
        scatter = np.std(less) / len(less) ** 0.5
        print("" if name == "tenonrt" else f", ours is less by {np.mean(less):.4f} +- {scatter:.4f}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="for models, plans and times")
    parser.add_argument("--forms", nargs="+", default=["u8", "s8", "calibrated"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--level", type=int, default=3)
    parser.add_argument("--inputs", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rebuild", action="store_true", help="plans that are there already")
    parser.add_argument("--prepare", action="store_true", help="make models and plans, race nothing")
    options = parser.parse_args()
    if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:  # see cpu.py
        os.environ["OPENBLAS_THREAD_TIMEOUT"] = "16"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in options.models:
        for form in options.forms:
            if options.prepare:
                plan_of(path, form, options)
            else:
                measure(path, form, options)


if __name__ == "__main__":
    main()
