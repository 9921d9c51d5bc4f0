"""Quantized regions: a convolution of dequantized operands, a sum with another one, a ReLU, and what quantizes it.

What kernels of several libraries look for. real = stored * scale. Other zero points than zero are refused: borders of
images would be padded with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenonrt.problem import Problem, ProblemLayer
from tenonrt.region_patterns import only_reader

if TYPE_CHECKING:
    from tenonrt.views import GraphView, Layer, Tensor

BYTES = frozenset({"int8", "uint8"})


def byte_regions(view: GraphView, convolution: Layer) -> Iterator[Sequence[Layer]]:
    """The convolution with its Dequantize layers, cut where nothing more can follow or another region may begin."""
    operands = [_dequantize(view, tensor) for tensor in convolution.inputs[:2]]
    if any(layer is None for layer in operands):
        return
    region = [*(layer for layer in operands if layer is not None), convolution]
    last = convolution
    while (follower := only_reader(view, last.outputs[0])) is not None:
        if follower.kind == "Elementwise" and last is convolution and follower.attrs.operation == "sum":
            others = [t for t in follower.inputs if t is not None and t is not last.outputs[0]]
            other = _dequantize(view, others[0]) if len(others) == 1 else None
            yield tuple(region)  # the other operand's convolution may take the sum instead
            if other is None or view.reaches(other, region):
                return
            region.append(other)
        elif follower.kind == "Activation" and last.kind != "Activation":
            if upper_limit(follower) is None:
                break
        elif follower.kind != "Quantize":
            break
        region.append(follower)
        last = follower
        if follower.kind == "Quantize":
            break
    yield tuple(region)


def _dequantize(view: GraphView, tensor: Tensor | None) -> Layer | None:
    """The layer that dequantizes a tensor for one reader alone."""
    layer = None if tensor is None else view.producer(tensor)
    if layer is None or layer.kind != "Dequantize" or layer.inputs[0] is None:
        return None
    return layer if only_reader(view, layer.outputs[0]) is not None and layer.inputs[0].type.dtype in BYTES else None


def upper_limit(layer: Layer | ProblemLayer) -> tuple[float | None] | None:
    """What a rectifier leaves at most, (None,): anything; None where it is no rectifier."""
    attrs = layer.attrs
    if attrs.function == "relu":
        return (None,)
    bounded = attrs.function == "clip" and attrs.alpha == 0 and attrs.beta is not None and attrs.beta > 0
    return (float(attrs.beta),) if bounded else None


@dataclass(frozen=True)
class ByteRegion:
    """A quantized region as layers of its problem: source, weights and added are Dequantize layers."""

    convolution: ProblemLayer
    source: ProblemLayer
    weights: ProblemLayer
    added: ProblemLayer | None
    rectifier: ProblemLayer | None
    quantize: ProblemLayer | None

    @property
    def bias(self) -> int:
        inputs = self.convolution.inputs
        return inputs[2] if len(inputs) > 2 else -1

    @property
    def limit(self) -> float | None:
        """What the result is at most, where a rectifier says so."""
        limit = None if self.rectifier is None else upper_limit(self.rectifier)
        return None if limit is None else limit[0]

    @classmethod
    def of(cls, problem: Problem) -> ByteRegion:
        """The region of a problem that was found to be one."""
        region = read_byte_region(problem)
        assert isinstance(region, ByteRegion), region
        return region


def read_byte_region(problem: Problem) -> ByteRegion | str:
    """The region that a problem poses, or why it is none."""
    makers = {layer.outputs[0]: layer for layer in problem.layers}
    anchors = [layer for layer in problem.layers if layer.kind == "Convolution"]
    if len(anchors) != 1 or problem.outputs != (problem.layers[-1].outputs[0],):
        return "not one convolution whose last follower's result is wanted"
    operands = [makers.get(i) for i in anchors[0].inputs[:2]]
    parts: dict[str, ProblemLayer] = {}
    made = anchors[0].outputs[0]
    for layer in problem.layers[problem.layers.index(anchors[0]) + 1 :]:
        if layer.kind == "Dequantize" and made not in layer.inputs:
            continue  # of what is added
        part = _PARTS.get(layer.kind)
        if part is None or part in parts or made not in layer.inputs or any(_ORDER[part] < _ORDER[p] for p in parts):
            return f"a {layer.kind} where none can be"
        parts[part] = layer
        made = layer.outputs[0]
    total = parts.get("sum")
    other = None
    if total is not None:
        others = [makers.get(i) for i in total.inputs if i != anchors[0].outputs[0]]
        other = others[0] if len(others) == 1 else None
        if other is None or total.attrs.operation != "sum":
            return "what is added is not one dequantized tensor"
    source, weights = operands
    if source is None or weights is None:
        return "its operands are not dequantized"
    region = ByteRegion(anchors[0], source, weights, other, parts.get("rectifier"), parts.get("quantize"))
    return _refusal(problem, region) or region


_PARTS = {"Elementwise": "sum", "Activation": "rectifier", "Quantize": "quantize"}
_ORDER = {"sum": 0, "rectifier": 1, "quantize": 2}


def _refusal(problem: Problem, region: ByteRegion) -> str:
    types, constants = problem.types, set(problem.constants)
    for layer in filter(None, (region.source, region.added, region.quantize)):
        if not _per_tensor(problem, layer):
            return f"a {layer.kind} by channel or with a zero point"
    stored = region.weights.inputs[0]
    if stored not in constants or types[stored].dtype != "int8" or not _by_channel(problem, region.weights):
        return "its weights are not constant int8 with a scale for each output, or for all"
    if region.bias >= 0 and region.bias not in constants:
        return "its bias is computed"
    if region.rectifier is not None and upper_limit(region.rectifier) is None:
        return f"the activation {region.rectifier.attrs.function}"
    result = types[problem.outputs[0]]
    if region.added is not None and types[region.added.inputs[0]].shape != result.shape:
        return "what is added has another shape"
    return "" if result.dtype in BYTES | {"float32"} else f"a result of {result.dtype}"


def _per_tensor(problem: Problem, layer: ProblemLayer) -> bool:
    scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
    known = scale in problem.constants and problem.types[scale].size == 1 and not layer.attrs.block
    kind = problem.types[layer.outputs[0] if layer.kind == "Quantize" else layer.inputs[0]].dtype
    return known and zero < 0 and kind in BYTES and problem.types[scale].dtype == "float32"


def _by_channel(problem: Problem, layer: ProblemLayer) -> bool:
    scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
    known = scale in problem.constants and not layer.attrs.block and problem.types[scale].dtype == "float32"
    return known and zero < 0 and (problem.types[scale].size == 1 or layer.attrs.axis == 0)
