"""`sensitivity`: what quantizing each layer costs, and the fewest layers to keep real for a wanted accuracy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tenonrt.accuracy.errors import summarize
from tenonrt.api import parse
from tenonrt.builder.builder import Builder
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.progress import Teller
from tenonrt.calibration.insertion import quantizable, quantize_network
from tenonrt.calibration.session import Calibration, calibrate, prepare
from tenonrt.errors import BuildError
from tenonrt.types import Array, Range

Batch = Mapping[str, Array]
Outputs = list[dict[str, Array]]


class LayerCost(msgspec.Struct, frozen=True):
    """What quantizing this layer alone adds: the error of the outputs (relative to their size), and of the score."""

    layer: str
    error: float
    score: float | None = None


@dataclass(frozen=True)
class Sensitivity:
    """costs: the most sensitive layer first. keep: layers to keep real; error and score: of the rest quantized."""

    costs: tuple[LayerCost, ...]
    keep: tuple[str, ...]
    error: float
    score: float | None
    reference_score: float | None
    reached: bool


@dataclass(frozen=True)
class Study:
    """What to study. labels: one class per sample of all batches, in order; then the score is the top-1 accuracy.

    options: of the model's parser.
    target: with labels the least accuracy, without them the largest error of the outputs relative to their size.
    """

    model: Path
    batches: Sequence[Batch]
    calibration: Calibration
    labels: Sequence[int] | None = None
    target: float = 0.01
    config: BuilderConfig = field(default_factory=BuilderConfig)
    options: Mapping[str, Any] = field(default_factory=dict)


def sensitivity(study: Study) -> Sensitivity:
    """Quantize every layer alone, then as many of the least sensitive ones together as the target allows.

    Engines are built without timing: what they compute is what int8 kernels do, in float32.
    """
    if not study.batches:
        raise BuildError("measuring sensitivity takes at least one batch of inputs")
    samples = sum(len(next(iter(batch.values()))) for batch in study.batches)
    if study.labels is not None and len(study.labels) != samples:
        raise BuildError(f"there are {len(study.labels)} labels for {samples} samples")
    return _Measurement(study).result()


class _Measurement:
    def __init__(self, study: Study) -> None:
        self.study = study
        self.teller = Teller(study.config.progress)
        self.config = replace(study.config, precision="int8", optimization_level=0, progress=None)
        network = parse(study.model, options=study.options)
        self.ranges: dict[str, Range] = calibrate(network, self.config, study.calibration)
        self.layers = [layer.name for layer in network.graph.layers if quantizable(layer)]
        self.real = self._outputs(set(self.layers))

    def result(self) -> Sensitivity:
        costs = []
        for done, layer in enumerate(self.layers):
            self.teller.tell("sensitivity", done, len(self.layers), layer)
            found = self._outputs(set(self.layers) - {layer})
            costs.append(LayerCost(layer, self._error(found), self._score(found)))
        costs.sort(key=lambda cost: -cost.error)
        self.teller.tell("sensitivity", len(self.layers), len(self.layers), "the fewest to keep")
        keep, error, score = self._smallest([cost.layer for cost in costs])
        return Sensitivity(
            tuple(costs), tuple(keep), error, score, self._score(self.real), self._reaches(error, score)
        )  # fmt: skip

    def _smallest(self, ranked: Sequence[str]) -> tuple[list[str], float, float | None]:
        """Bisection over how many of the most sensitive layers stay real; more of them never hurt on the whole."""
        low, high = 0, len(ranked)
        best = self._measured(ranked[:high])
        while low < high:
            middle = (low + high) // 2
            found = self._measured(ranked[:middle])
            if self._reaches(*found):
                high, best = middle, found
            else:
                low = middle + 1
        return list(ranked[:high]), *best

    def _measured(self, keep: Sequence[str]) -> tuple[float, float | None]:
        found = self._outputs(set(keep))
        return self._error(found), self._score(found)

    def _reaches(self, error: float, score: float | None) -> bool:
        return error <= self.study.target if score is None else score >= self.study.target

    def _outputs(self, keep: set[str]) -> Outputs:
        network = parse(self.study.model, options=self.study.options)
        prepare(network, self.config)
        quantize_network(network, self.ranges, keep)
        context = Builder(self.config).build(network).create_context(0)
        return [context.execute(dict(batch)) for batch in self.study.batches]

    def _error(self, found: Outputs) -> float:
        pairs = [(f[name], e[name]) for f, e in zip(found, self.real, strict=True) for name in e]
        return max(summarize(*pair).relative for pair in pairs if pair[1].dtype.kind == "f")

    def _score(self, found: Outputs) -> float | None:
        if self.study.labels is None:
            return None
        first: Callable[[dict[str, Array]], Array] = lambda outputs: next(iter(outputs.values()))  # noqa: E731
        classes = np.concatenate([first(outputs).reshape(len(first(outputs)), -1).argmax(axis=1) for outputs in found])
        if len(classes) != len(self.study.labels):
            raise BuildError(
                f"the first output has {len(classes)} rows for {len(self.study.labels)} samples, so it is no class of "
                "each; study the model without labels"
            )
        return float((classes == np.asarray(self.study.labels)).mean())
