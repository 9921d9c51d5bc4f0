"""Convolution on bytes with channels innermost: what lies between Dequantize and Quantize layers, as one kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import (
    NHWC,
    Array,
    ByteRegion,
    Code,
    Executable,
    GraphView,
    Kernel,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    byte_regions,
    read_byte_region,
)

from tenonrt_kernel_cudnn.byte_graphs import ADDED_FACTOR, FACTORS, ByteDescription
from tenonrt_kernel_cudnn.convolution import MOST, WORKSPACE, image_format, sliding
from tenonrt_kernel_cudnn.execution import Planned
from tenonrt_kernel_cudnn.graphs import ADDED, BIAS, FILTERS, IMAGE, LIMIT, RESULT, built, offered
from tenonrt_kernel_cudnn.library import missing

# Tensor cores take 16 bytes of a pixel at once.
_CHANNELS = 16
_NARROW = ("float16", "bfloat16")  # what results are stored in that are no bytes


class ByteConvolutionKernel(Kernel):
    """Images of int8 without zero points, two spatial axes, one group; results in int8 or 16 bits."""

    on_device: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return byte_regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = refusal(problem) or missing()
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.tactics_within(problem, lambda precision: True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        inputs = (NHWC,) * len(problem.activations)
        if problem.types[problem.outputs[0]].dtype != "float32":
            names = offered(description(problem), WORKSPACE)[:MOST]
            return [Tactic(name, inputs, (NHWC,), workspace=WORKSPACE) for name in names]
        found: list[Tactic] = []
        for stored in filter(permits, _NARROW):
            names = offered(description(problem, stored), WORKSPACE)[:MOST]
            behind = "" if stored == _NARROW[0] else f" {stored}"
            output = image_format(8, stored)
            found += [Tactic(name + behind, inputs, (output,), stored, WORKSPACE) for name in names]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        d = description(problem)
        flops = 2 * float(np.prod(d.filters[1:])) * float(np.prod(d.result))
        moved = float(np.prod(d.image)) + float(np.prod(d.result)) * (2 if d.added else 1)
        return 3e-6 + max(flops / 1e15, moved / 4e12)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        plan, workspace = built(description(problem, tactic.precision), WORKSPACE, tactic.key.partition(" ")[0])
        if workspace > WORKSPACE:
            raise ValueError(f"it needs {workspace} bytes of workspace")
        return Code(problem, tactic, plan, workspace=workspace)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Filters [K, R, S, C] in int8; in steps of the result: factors and offsets [K], factor of the sum, limit."""
        problem, region = code.problem, ByteRegion.of(code.problem)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        step = 1.0 if region.quantize is None else _number(given[region.quantize.inputs[1]])
        filters = given[region.weights.inputs[0]]
        scales = given[region.weights.inputs[1]].reshape(-1).astype(np.float64)
        factors = np.broadcast_to(scales * _number(given[region.source.inputs[1]]) / step, filters.shape[:1])
        bias = np.zeros(len(filters)) if region.bias < 0 else given[region.bias].astype(np.float64)
        packed = [np.ascontiguousarray(filters.transpose(0, 2, 3, 1)), factors.astype(np.float32)]
        packed.append((bias / step).astype(np.float32))
        if region.added is not None:
            packed.append(np.array([_number(given[region.added.inputs[1]]) / step], np.float32))
        limit = region.limit
        return packed if limit is None else [*packed, np.array([limit / step], np.float32)]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return "bytes"

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem, region = code.problem, ByteRegion.of(code.problem)
        pointers = {
            IMAGE: ("input", problem.activations.index(region.source.inputs[0])),
            FILTERS: ("packed", 0), FACTORS: ("packed", 1), BIAS: ("packed", 2), RESULT: ("output", 0),
        }  # fmt: skip
        if region.added is not None:
            pointers[ADDED] = ("input", problem.activations.index(region.added.inputs[0]))
            pointers[ADDED_FACTOR] = ("packed", 3)
        if region.limit is not None:
            pointers[LIMIT] = ("packed", len(packed) - 1)
        return Planned(code.blob, pointers, packed)


def _number(scale: Array) -> float:
    return float(scale.reshape(()))


def refusal(problem: Problem) -> str:
    """Why a problem is none of this kernel's, whatever GPU there is; empty when it is one."""
    region = read_byte_region(problem)
    if isinstance(region, str):
        return region
    if not all(type.static for type in problem.types):
        return "a size that changes at run time"
    image, filters = (problem.types[layer.inputs[0]] for layer in (region.source, region.weights))
    sizes, window = image.concrete({}), filters.concrete({})
    if len(sizes) != 4 or 0 in sizes or 0 in problem.types[problem.outputs[0]].concrete({}):
        return f"no image, or an empty one: {image}"
    if region.product.attrs.groups > 1 or sizes[1] % _CHANNELS or window[0] % _CHANNELS:
        return f"groups, or channels that are no multiple of {_CHANNELS}"
    if "uint8" in {type.dtype for type in problem.types}:
        return "unsigned bytes, for which cuDNN 9 has no engine on Hopper"
    inputs = {region.source.inputs[0]} | (set() if region.added is None else {region.added.inputs[0]})
    return "" if inputs == set(problem.activations) else "an operand is constant, or is read twice"


def description(problem: Problem, real: str = _NARROW[0]) -> ByteDescription:
    """The graph of a problem that is supported. real: what results are stored in that are no bytes."""
    region = ByteRegion.of(problem)
    attrs, types = region.product.attrs, problem.types
    image, filters = (types[layer.inputs[0]].concrete({}) for layer in (region.source, region.weights))
    result = types[problem.outputs[0]]
    before, after, stride, dilation = sliding(attrs, image[2:], filters[2:])
    return ByteDescription(
        tuple(image), tuple(filters), tuple(result.concrete({})), before, after, stride, dilation,
        real if result.dtype == "float32" else result.dtype, region.added is not None,
        region.rectified, region.limit is not None,
    )  # fmt: skip
