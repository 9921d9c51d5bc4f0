"""Products with constant weights: FullyConnected, and convolutions whose window is one element."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Executable,
    Format,
    GraphView,
    Kernel,
    Layer,
    Problem,
    Support,
    Tactic,
    Tensor,
    Weights,
)

from tenonrt_kernel_cublaslt.library import missing
from tenonrt_kernel_cublaslt.matmul import Description, Launched, Product

HALF = Format(dtype="float16")
CHANNELS_8 = Format((0, 2, 3, 1), ((1, 8),), "float16")
# Heuristics that are tried: what is fastest for few rows comes late among those of a product.
MOST = {"FullyConnected": 32, "Convolution": 8}
_EPILOGUES = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu"}  # the library's is the tanh form: 5e-4 off at most


class ProductKernel(Kernel):
    """With bias, a sum with one tensor of the result's shape, and ReLU or GELU, in half precision."""

    on_device: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        region, cuts = [layer], list[tuple[Layer, ...]]()
        while (follower := _follower(view, region)) is not None:
            if follower.kind == "Elementwise":
                cuts.append(tuple(region))  # the other operand's product may take the sum instead
            region.append(follower)
        yield from dict.fromkeys((*cuts, tuple(region)))

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem) or missing()
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        formats = (_format(problem),) * len(problem.activations)
        images = formats[0] == CHANNELS_8
        strided = tuple(range(len(formats))) if images else ()
        return [
            Tactic(key, formats, formats[:1], "float16", int(found.workspace), reads_strided=strided,
                   writes_strided=(0,) if images else ())
            for key, found in Product(description(problem)).algorithms(MOST[problem.layer.kind]).items()
        ]  # fmt: skip

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        d = description(problem)
        moved = 2 * (d.m * d.k + d.n * d.k + d.m * d.n * (1 + d.added))
        return 3e-6 + max(2 * d.m * d.n * d.k / 6e14, moved / 4e12)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        found = Product(description(problem)).algorithms(MOST[problem.layer.kind])
        if tactic.key not in found:
            raise ValueError(f"cuBLASLt no longer offers the algorithm {tactic.key}")
        return Code(problem, tactic, bytes(found[tactic.key].algorithm))

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights [N, K] and bias [N] in half precision, padded with zeros where channels are."""
        problem, layer = code.problem, code.problem.layer
        given, d = dict(zip(problem.constants, weights.constants, strict=True)), description(problem)
        matrix = given[layer.inputs[1]].reshape(given[layer.inputs[1]].shape[0], -1)
        packed = [np.pad(matrix, ((0, d.n - matrix.shape[0]), (0, d.k - matrix.shape[1]))).astype(np.float16)]
        if len(layer.inputs) > 2 and layer.inputs[2] >= 0:
            bias = given[layer.inputs[2]]
            packed.append(np.pad(bias, (0, d.n - bias.shape[0])).astype(np.float16))
        return packed

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "half"

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem = code.problem
        added = _added(problem)
        x = problem.activations.index(problem.layer.inputs[0])
        c = None if added is None else problem.activations.index(added)
        return Launched(description(problem), code.blob, packed, x, None, c)


def description(problem: Problem) -> Description:
    """The product of a problem that is supported."""
    layer = problem.layer
    source, weights = problem.types[layer.inputs[0]].concrete({}), problem.types[layer.inputs[1]].concrete({})
    biased = "bias" if len(layer.inputs) > 2 and layer.inputs[2] >= 0 else ""
    functions = [_EPILOGUES[f.attrs.function] for f in problem.layers if f.kind == "Activation"]
    epilogue = "+".join(filter(None, (biased, *functions))) or "none"
    added = _added(problem) is not None
    if layer.kind == "Convolution":
        images, channels, height, width = source
        return Description(images * height * width, _ceil8(weights[0]), _ceil8(channels), epilogue, added)
    return Description(prod(source[:-1]), weights[0], source[-1], epilogue, added)


def _ceil8(size: int) -> int:
    return -(-size // 8) * 8


def _format(problem: Problem) -> Format:
    return CHANNELS_8 if problem.layer.kind == "Convolution" else HALF


def _follower(view: GraphView, region: Sequence[Layer]) -> Layer | None:
    """The next layer of a region: a sum of two equal shapes once, then an activation, which ends it."""
    result = region[-1].outputs[0]
    readers = {id(r): r for r in view.consumers(result)}
    if len(readers) != 1 or view.is_output(result) or region[-1].kind == "Activation":
        return None
    (layer,) = readers.values()
    if layer.kind == "Activation":
        return layer if layer.attrs.function in _EPILOGUES else None
    if layer.kind != "Elementwise" or layer.attrs.operation != "sum" or region[-1].kind == "Elementwise":
        return None
    others = [t for t in layer.inputs if t is not None and t is not result]
    return layer if len(others) == 1 and _can_add(view, others[0], result, region) else None


def _can_add(view: GraphView, other: Tensor, result: Tensor, region: Sequence[Layer]) -> bool:
    producer = view.producer(other)
    depends = producer is not None and view.reaches(producer, region)
    return other.type == result.type and other.constant is None and not depends


def _added(problem: Problem) -> int | None:
    """The tensor that is added to the product."""
    for layer in problem.layers[1:]:
        if layer.kind == "Elementwise":
            others = [i for i in layer.inputs if i != problem.layer.outputs[0]]
            same = len(others) == 1 and problem.types[others[0]] == problem.types[problem.layer.outputs[0]]
            return others[0] if same and others[0] in problem.activations else None
    return None


def _refusal(problem: Problem) -> str:
    layer = problem.layer
    if not all(type.static and type.size for type in problem.types):
        return "a size that changes at run time or is 0"
    if layer.kind not in ("FullyConnected", "Convolution") or layer.inputs[1] not in problem.constants:
        return "no product with constant weights"
    if len(layer.inputs) > 2 and layer.inputs[2] >= 0 and layer.inputs[2] not in problem.constants:
        return "a bias that is computed"
    if layer.inputs[0] not in problem.activations or problem.types[layer.inputs[0]].dtype != "float32":
        return "an input that is constant or not float32"
    if problem.outputs != (problem.layers[-1].outputs[0],):
        return "an interior result is wanted outside of the region"
    own = _refuses_convolution(problem) if layer.kind == "Convolution" else _refuses_sizes(problem)
    return own or _refuses_tail(problem)


def _refuses_sizes(problem: Problem) -> str:
    """Rows must start where 16 bytes do."""
    weights = problem.types[problem.layer.inputs[1]].concrete({})
    return "" if weights[0] % 8 == 0 and weights[1] % 8 == 0 else f"sizes of {weights} that are no multiples of 8"


def _refuses_convolution(problem: Problem) -> str:
    attrs, weights = problem.layer.attrs, problem.types[problem.layer.inputs[1]].concrete({})
    plain = not any((*attrs.pre_padding, *attrs.post_padding)) and set(attrs.stride) <= {1} and attrs.groups == 1
    if len(weights) != 4 or weights[2:] != (1, 1) or not plain:
        return "a window of more than one element, a stride, padding or groups"
    return ""


def _refuses_tail(problem: Problem) -> str:
    kinds = problem.kinds[1:]
    if kinds not in ((), ("Activation",), ("Elementwise",), ("Elementwise", "Activation")):
        return f"{' + '.join(kinds)} follows it"
    current = problem.layer
    for layer in problem.layers[1:]:
        if current.outputs[0] not in layer.inputs:
            return "the region is not a chain"
        if layer.kind == "Activation" and layer.attrs.function not in _EPILOGUES:
            return f"the activation {layer.attrs.function}"
        if layer.kind == "Elementwise" and (layer.attrs.operation != "sum" or _added(problem) is None):
            return f"a {layer.attrs.operation} of something else than one computed tensor of its shape"
        current = layer
    return ""
