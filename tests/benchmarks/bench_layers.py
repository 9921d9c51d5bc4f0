"""Single layers by NumPy's kernels and by compiled ones: uv run --group bench python tests/benchmarks/bench_layers.py

Each layer is a network of its own, built at level 3 with one thread, once without the compiled kernels. Runs alternate;
the times are medians in microseconds, with what calling the engine costs in them. Arguments choose layers by name.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tenonrt
from tenonrt import PluginSet

COMPILED = "tenonrt-kernel-llvm"
RNG = np.random.default_rng(0)
Define = Callable[[tenonrt.Network], Any]


def normal(*shape: int) -> Any:
    """float32 weights."""
    return RNG.standard_normal(shape).astype(np.float32)


def layer(kind: str, *inputs: Any, **attrs: Any) -> Define:
    """A network of one layer: tuples are shapes of computed inputs, arrays are constants."""

    def define(network: tenonrt.Network) -> Any:
        operands = [network.add_input(f"x{i}", x) if isinstance(x, tuple) else x for i, x in enumerate(inputs)]
        return network.add(kind, operands, attrs)[0]

    return define


def regions(kind: str, features: tuple[int, ...], count: int, **attrs: Any) -> Define:
    """A network that pools regions."""

    def define(network: tenonrt.Network) -> Any:
        return network.add(
            kind, [network.add_input("features", features), network.add_input("regions", (count, 5))], attrs
        )[0]

    return define


DOUBLE = {"stride": (2, 2), "pre_padding": (1, 1), "post_padding": (1, 1)}
LAYERS: dict[str, Define] = {
    "deconvolution 256x14x14 to 128, 4x4": layer("Deconvolution", (1, 256, 14, 14), normal(256, 128, 4, 4), **DOUBLE),
    "deconvolution 64x56x56 to 32, 2x2": layer("Deconvolution", (1, 64, 56, 56), normal(64, 32, 2, 2), stride=(2, 2)),
    "bilinear deconvolution 21x64x64": layer(
        "Deconvolution", (1, 21, 64, 64), normal(21, 1, 4, 4), groups=21, **DOUBLE
    ),
    "roi pooling 300 of 512x38x50 to 7x7": regions("RoiPooling", (1, 512, 38, 50), 300, pooled=(7, 7), scale=0.0625),
    "roi align 300 of 256x50x50 to 7x7": regions(
        "RoiAlign", (1, 256, 50, 50), 300, pooled=(7, 7), scale=0.0625, samples=2
    ),
    "position-sensitive pooling 300, 21 of 7x7": regions(
        "PositionSensitiveRoiPooling", (1, 1029, 38, 50), 300, channels=21, groups=7, scale=0.0625
    ),
    "suppression of 2000 boxes in 20 classes": layer(
        "NonMaxSuppression", (1, 2000, 4), (1, 20, 2000), np.array([100], np.int64), np.float32(0.5), np.float32(0.3)
    ),
    "detections of 1500 boxes in 21 classes": layer(
        "DetectionOutput",
        (1, 6000),
        (1, 31500),
        (1, 2, 6000),
        classes=21,
        code="center_size",
        confidence=0.3,
        top=200,
        keep=100,
        threshold=0.45,
    ),
    "the best 100 of 8400": layer("TopK", (1, 8400), np.array([100])),
    "scale of channels 64x56x56": layer("Scale", (1, 64, 56, 56), normal(64), normal(64), mode="channel"),
    "prelu 64x56x56": layer("ParametricRelu", (1, 64, 56, 56), normal(1, 64, 1, 1)),
}


def build(define: Define, deny: tuple[str, ...]) -> Any:
    """A context for one layer."""
    network = tenonrt.Network("layer")
    network.mark_output(define(network), "y")
    return tenonrt.compile(network, optimization_level=3, threads=1, plugins=PluginSet(deny=deny)).create_context()


def race(contexts: dict[str, Any], feeds: dict[str, Any], seconds: float = 2.0) -> dict[str, float]:
    """Medians in microseconds, of runs in turns."""
    times: dict[str, list[float]] = {name: [] for name in contexts}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times["numpy"]:
        for name, context in contexts.items():
            context.execute(feeds)
            start = time.perf_counter()
            context.execute(feeds)
            times[name].append(time.perf_counter() - start)
    return {name: 1e6 * statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Print a line for each layer."""
    for name, define in LAYERS.items():
        if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
            continue
        contexts = {"numpy": build(define, (COMPILED, "acme-*")), "compiled": build(define, ("acme-*",))}
        bindings = [binding for binding in contexts["numpy"].engine.bindings if binding.is_input]
        feeds = {b.name: RNG.random(b.type.concrete({}), np.float32) for b in bindings}
        if "regions" in feeds:  # of image 0, of all sizes in 600 x 800 pixels
            corners = np.sort(RNG.random((len(feeds["regions"]), 2, 2)) * [800, 600], 1)
            feeds["regions"] = np.concatenate(
                [0 * feeds["regions"][:, :1], corners.reshape(-1, 4)], 1, dtype=np.float32
            )
        found = race(contexts, feeds)
        gain = found["numpy"] / found["compiled"]
        print(f"{name:42} numpy {found['numpy']:9.1f}  compiled {found['compiled']:9.1f}  {gain:6.1f} times")


if __name__ == "__main__":
    main()
