"""Quantized regions: a product of dequantized operands, a sum with another one, an activation, and what quantizes it.

What kernels of several libraries look for. A product is a Convolution or a FullyConnected. real = stored * scale, where
bytes are integers or, all operands of a region alike, float8_e4m3fn. Other zero points than zero are refused: borders
of images would be padded with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tenonrt.problem import Problem, ProblemLayer
from tenonrt.region_patterns import only_reader

if TYPE_CHECKING:
    from tenonrt.views import GraphView, Layer, Tensor

INTEGERS = frozenset({"int8", "uint8"})
FLOAT8 = "float8_e4m3fn"
BYTES = INTEGERS | {FLOAT8}
PRODUCTS = frozenset({"Convolution", "FullyConnected"})


def byte_regions(view: GraphView, product: Layer, curved: frozenset[str] = frozenset()) -> Iterator[Sequence[Layer]]:
    """The product with its Dequantize layers, cut where nothing more can follow or another region may begin.

    curved: the activations besides rectifiers that the kernel computes.
    """
    operands = [_dequantize(view, tensor) for tensor in product.inputs[:2]]
    if any(layer is None for layer in operands):
        return
    region = [*(layer for layer in operands if layer is not None), product]
    last = product
    while (follower := only_reader(view, last.outputs[0])) is not None:
        if follower.kind == "Elementwise" and last is product and follower.attrs.operation == "sum":
            others = [t for t in follower.inputs if t is not None and t is not last.outputs[0]]
            other = _dequantize(view, others[0]) if len(others) == 1 else None
            yield tuple(region)  # the other operand's product may take the sum instead
            if other is None or view.reaches(other, region):
                return
            region.append(other)
        elif follower.kind == "Activation" and last.kind != "Activation":
            if upper_limit(follower) is None and follower.attrs.function not in curved:
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

    product: ProblemLayer
    source: ProblemLayer
    weights: ProblemLayer
    added: ProblemLayer | None
    activation: ProblemLayer | None
    quantize: ProblemLayer | None

    @property
    def bias(self) -> int:
        inputs = self.product.inputs
        return inputs[2] if len(inputs) > 2 else -1

    @property
    def rectified(self) -> bool:
        """Whether the activation is a rectifier."""
        return self.activation is not None and upper_limit(self.activation) is not None

    @property
    def curve(self) -> ProblemLayer | None:
        """The activation where it is none that commutes with a factor, so that it is computed on real numbers."""
        return None if self.rectified else self.activation

    @property
    def limit(self) -> float | None:
        """What the result is at most, where a rectifier says so."""
        limit = None if self.activation is None else upper_limit(self.activation)
        return None if limit is None else limit[0]

    @classmethod
    def of(cls, problem: Problem) -> ByteRegion:
        """The region of a problem that was found to be one."""
        region = read_byte_region(problem, frozenset(map(layer_function, problem.layers)), BYTES)
        assert isinstance(region, ByteRegion), region
        return region


def layer_function(layer: ProblemLayer) -> str:
    """The name of an activation's function; empty for other layers."""
    return str(layer.attrs.function) if layer.kind == "Activation" else ""


def read_byte_region(
    problem: Problem, curved: frozenset[str] = frozenset(), numbers: frozenset[str] = INTEGERS
) -> ByteRegion | str:
    """The region that a problem poses, or why it is none that a kernel computes.

    curved: the activations besides rectifiers that it computes; numbers: the element types that it multiplies.
    """
    makers = {layer.outputs[0]: layer for layer in problem.layers}
    anchors = [layer for layer in problem.layers if layer.kind in PRODUCTS]
    if len(anchors) != 1 or problem.outputs != (problem.layers[-1].outputs[0],):
        return "not one product whose last follower's result is wanted"
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
    region = ByteRegion(anchors[0], source, weights, other, parts.get("activation"), parts.get("quantize"))
    return _refusal(problem, region, curved, numbers) or region


def byte_problems(problem: Problem) -> list[Problem] | str:
    """The problems of siblings that are joined in one, each with its layers, by the order of results; or why not.

    A problem of one product is the only one.
    """
    makers = {output: index for index, layer in enumerate(problem.layers) for output in layer.outputs}
    found, taken = list[Problem](), list[int]()
    for result in problem.outputs:
        wanted, left = set[int](), [result]
        while left:
            index = makers.get(left.pop())
            if index is not None and index not in wanted:
                wanted.add(index)
                left += problem.layers[index].inputs
        layers = tuple(problem.layers[index] for index in sorted(wanted))
        found.append(msgspec.structs.replace(problem, layers=layers, outputs=(result,)))
        taken += wanted
    return found if sorted(taken) == list(range(len(problem.layers))) else "layers of several results, or of none"


_PARTS = {"Elementwise": "sum", "Activation": "activation", "Quantize": "quantize"}
_ORDER = {"sum": 0, "activation": 1, "quantize": 2}


def _refusal(problem: Problem, region: ByteRegion, curved: frozenset[str], numbers: frozenset[str]) -> str:
    types, constants = problem.types, set(problem.constants)
    read = types[region.source.inputs[0]].dtype
    if read not in numbers:
        return f"operands of {read}"
    alike, weighted = (INTEGERS, "int8") if read in INTEGERS else (frozenset({read}), read)
    for layer in filter(None, (region.source, region.added, region.quantize)):
        if not _per_tensor(problem, layer):
            return f"a {layer.kind} by channel or with a zero point"
        stored = layer.outputs[0] if layer.kind == "Quantize" else layer.inputs[0]
        if types[stored].dtype not in alike:
            return f"a {layer.kind} of {types[stored].dtype} beside {read}"
    if read not in INTEGERS and region.quantize is not None and not region.quantize.attrs.saturate:
        return "a Quantize that does not saturate"
    stored = region.weights.inputs[0]
    if stored not in constants or types[stored].dtype != weighted or not _by_channel(problem, region.weights):
        return f"its weights are not constant {weighted} with a scale for each output, or for all"
    if region.bias >= 0 and region.bias not in constants:
        return "its bias is computed"
    if region.curve is not None and layer_function(region.curve) not in curved:
        return f"the activation {layer_function(region.curve)}"
    result = types[problem.outputs[0]]
    if region.added is not None and types[region.added.inputs[0]].shape != result.shape:
        return "what is added has another shape"
    return "" if result.dtype in alike | {"float32"} else f"a result of {result.dtype}"


def _per_tensor(problem: Problem, layer: ProblemLayer) -> bool:
    scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
    known = scale in problem.constants and problem.types[scale].size == 1 and not layer.attrs.block
    return known and zero < 0 and problem.types[scale].dtype == "float32"


def _by_channel(problem: Problem, layer: ProblemLayer) -> bool:
    scale, zero = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else -1
    known = scale in problem.constants and not layer.attrs.block and problem.types[scale].dtype == "float32"
    return known and zero < 0 and (problem.types[scale].size == 1 or layer.attrs.axis == 0)
