"""Quantized regions as problems: dequantized operands, an anchor, and up to two stages of requantization.

real = (stored - zero_point) * scale. A stage is an optional sum with another dequantized tensor, clips (ReLU among
them), and an optional Quantize; the second one begins where the first one's result is dequantized again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tenonrt.contracts import Problem, ProblemLayer

BYTES = frozenset({"int8", "uint8"})
BOUNDED = frozenset({"relu", "clip"})
LIMITS = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Operand:
    """A dequantized tensor by its numbers in the problem; zero -1: none."""

    stored: int
    scale: int
    zero: int = -1


@dataclass(frozen=True)
class Saturation:
    """A clip to the range of integers of a type: numbers of its scale and its zero point, -1: none."""

    scale: int
    zero: int
    dtype: str


@dataclass(frozen=True)
class Stage:
    """``other``: what is added first. ``again``: how the stage before is read. clips: one after the other, real.

    scale -1: the stage ends in real numbers.
    """

    other: Operand | None = None
    again: Operand | None = None
    clips: tuple[Bounds | Saturation, ...] = ()
    scale: int = -1
    zero: int = -1
    dtype: str = "float32"

    @property
    def quantized(self) -> bool:
        return self.scale >= 0


@dataclass(frozen=True)
class Quantized:
    """What a quantized region computes."""

    anchor: ProblemLayer
    source: Operand
    weights: Operand | None
    bias: int
    stages: tuple[Stage, ...]

    @property
    def result(self) -> Stage:
        return self.stages[-1]


def activation_bounds(attrs: Any) -> Bounds | None:
    """The interval that an activation clips to; None for other functions."""
    if attrs.function == "relu":
        return (0.0, None)
    return (attrs.alpha, attrs.beta) if attrs.function == "clip" else None


def read_quantized(problem: Problem, kinds: frozenset[str], weighted: bool = True) -> Quantized | str:
    """The region that a problem poses, or why it is none of an anchor of these kinds."""
    return _Reader(problem).read(kinds, weighted)


class _Reader:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.makers = {layer.outputs[0]: layer for layer in problem.layers}

    def read(self, kinds: frozenset[str], weighted: bool) -> Quantized | str:
        problem = self.problem
        anchors = [layer for layer in problem.layers if layer.kind in kinds]
        if len(anchors) != 1 or len(problem.outputs) != 1:
            return f"not one {' or '.join(sorted(kinds))} between Dequantize and Quantize layers with one result"
        anchor = anchors[0]
        source = self._dequantized(anchor.inputs[0])
        weights = self._dequantized(anchor.inputs[1]) if weighted else None
        if source is None or (weighted and weights is None):
            return "its operands are not dequantized per tensor, weights per channel"
        if source.stored not in problem.activations or (weights and weights.stored not in problem.constants):
            return "the input must be computed, the weights constant"
        if weights and (problem.types[weights.stored].dtype != "int8" or weights.zero >= 0):
            return "its weights are not symmetric int8"
        stages = self._stages(anchor)
        if isinstance(stages, str):
            return stages
        bias = anchor.inputs[2] if weighted and len(anchor.inputs) > 2 else -1
        if bias >= 0 and (bias not in problem.constants or problem.types[bias].dtype != "float32"):
            return "its bias is not a constant of real numbers"
        return Quantized(anchor, source, weights, bias, stages)

    def _dequantized(self, number: int) -> Operand | None:
        layer = self.makers.get(number)
        if layer is None or layer.kind != "Dequantize" or layer.attrs.block or layer.attrs.dtype != "float32":
            return None
        stored, scale, *rest = layer.inputs
        types, zero = self.problem.types, rest[0] if rest else -1
        if types[stored].dtype not in BYTES or types[scale].dtype != "float32":
            return None
        constant = set(self.problem.constants)
        if scale not in constant or (zero >= 0 and zero not in constant):
            return None
        if stored not in constant and types[scale].size != 1:
            return None
        return Operand(stored, scale, zero)

    def _stages(self, anchor: ProblemLayer) -> tuple[Stage, ...] | str:
        """The layers after the anchor, which must form one chain but for what is added."""
        stages, open_stage, made = list[Stage](), Stage(), anchor.outputs[0]
        rest = self.problem.layers[self.problem.layers.index(anchor) + 1 :]
        for layer in rest:
            if layer.kind == "Dequantize" and made not in layer.inputs[:1]:
                continue  # of what is added
            if made not in layer.inputs:
                return "its layers are no chain"
            step = self._step(layer, made, open_stage, stages)
            if isinstance(step, str):
                return step
            open_stage, made = step, layer.outputs[0]
        stages.append(open_stage)
        if made != self.problem.outputs[0] or len(stages) > 2:
            return "its result is not the last layer's, or it is requantized more than twice"
        if len(stages) == 2 and stages[1].other is None:
            return "it is requantized twice without anything between"
        return tuple(stages)

    def _step(self, layer: ProblemLayer, made: int, stage: Stage, stages: list[Stage]) -> Stage | str:
        if layer.kind in ("Activation", "Saturate") and not stage.quantized:
            clip = self._clip(layer)
            return clip if isinstance(clip, str) else replace(stage, clips=(*stage.clips, clip))
        if layer.kind == "Quantize" and not stage.quantized:
            scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
            if layer.attrs.dtype not in BYTES or layer.attrs.block or self.problem.types[scale].size != 1:
                return "it is not quantized to bytes per tensor"
            return replace(stage, scale=scale, zero=zero, dtype=layer.attrs.dtype)
        if layer.kind == "Dequantize" and stage.quantized:
            again = self._dequantized(layer.outputs[0])
            stages.append(stage)
            return Stage(again=again) if again is not None else "a result is dequantized in another way"
        if layer.kind == "Elementwise" and layer.attrs.operation == "sum" and stage.other is None:
            return self._sum(layer, made, stage, stages)
        return f"a {layer.kind} where none can be"

    def _clip(self, layer: ProblemLayer) -> Bounds | Saturation | str:
        if layer.kind == "Activation":
            return activation_bounds(layer.attrs) or f"the activation {layer.attrs.function}"
        scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
        constant, types = self.problem.constants, self.problem.types
        known = scale in constant and (zero < 0 or zero in constant) and types[scale].dtype == "float32"
        if layer.attrs.dtype not in BYTES or not known:
            return "it is not kept within the range of bytes by constants of float32"
        return Saturation(scale, zero, layer.attrs.dtype)

    def _sum(self, layer: ProblemLayer, made: int, stage: Stage, stages: list[Stage]) -> Stage | str:
        others = [i for i in layer.inputs if i != made]
        other = self._dequantized(others[0]) if len(others) == 1 else None
        types = self.problem.types
        if (
            other is None
            or other.stored not in self.problem.activations
            or types[other.stored].shape != types[made].shape
        ):
            return "what is added is not a dequantized tensor of the same shape"
        if stage.again is None:
            stages.append(stage)
            return Stage(other=other)
        return replace(stage, other=other)
