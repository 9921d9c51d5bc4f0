"""Convolution with bias, a sum and an activation, on tensor cores with channels innermost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
    SumTail,
    Support,
    Tactic,
    Weights,
    added_operand,
    numpy_dtype,
    window_axes,
)

from tenonrt_kernel_cudnn.execution import Planned
from tenonrt_kernel_cudnn.graphs import ADDED, BIAS, FILTERS, IMAGE, LIMIT, RESULT, Description, built, offered
from tenonrt_kernel_cudnn.library import missing

PRECISIONS = {"float16": "float16", "bfloat16": "bfloat16", "float32": "tf32"}  # of what is stored
_BLOCK = {"float16": 8, "bfloat16": 8, "float32": 4}  # channels that images are padded to: 16 bytes
WORKSPACE = 64 << 20
# Configurations of each variant that are tried, in the order of cuDNN's heuristics.
MOST = 8


class ConvolutionKernel(Kernel):
    """Two spatial axes, constant weights; a ReLU, a clip from 0, a sigmoid or SiLU, before it a sum of equal shapes."""

    on_device: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return TAIL.regions(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem) or missing()
        return Support(not why, why)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return self.tactics_within(problem, lambda precision: True)

    def tactics_within(self, problem: Problem, permits: Callable[[str], bool]) -> Sequence[Tactic]:
        found: list[Tactic] = []
        for key, description in variants(problem).items():
            if permits(PRECISIONS[description.stored]):
                found += [
                    _tactic(problem, key, description.stored, name) for name in offered(description, WORKSPACE)[:MOST]
                ]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return 3e-6 + _floor(problem)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        variant, _, name = tactic.key.partition("/")
        plan, workspace = built(variants(problem)[variant], WORKSPACE, name)
        if workspace > WORKSPACE:
            raise ValueError(f"it needs {workspace} bytes of workspace")
        return Code(problem, tactic, plan, workspace=workspace)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Filters [K, R, S, C] and bias [K], channels padded with zeros, as they are stored."""
        problem, layer = code.problem, code.problem.layer
        given = dict(zip(problem.constants, weights.constants, strict=True))
        variant = variants(problem)[code.tactic.key.partition("/")[0]]
        stored = numpy_dtype(variant.stored)
        filters = given[layer.inputs[1]].transpose(0, 2, 3, 1).astype(stored)
        missing_in = variant.filters[1] - filters.shape[3]
        missing_out = variant.result[1] - filters.shape[0]
        packed = [np.pad(filters, ((0, missing_out), (0, 0), (0, 0), (0, missing_in)))]
        if variant.bias:
            packed.append(np.pad(given[layer.inputs[2]], (0, missing_out)).astype(stored))
        if variant.activation is not None and variant.activation[1] is not None:
            packed.append(np.array([variant.activation[1]], stored))
        return packed

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        return tactic.key.partition("/")[0].replace(":sum", "")

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        problem, layer = code.problem, code.problem.layer
        pointers = {IMAGE: ("input", problem.activations.index(layer.inputs[0])), FILTERS: ("packed", 0)}
        pointers[RESULT] = ("output", 0)
        if len(layer.inputs) > 2 and layer.inputs[2] >= 0:
            pointers[BIAS] = ("packed", 1)
        if any(_activation(f.attrs)[1] is not None for f in problem.layers if f.kind == "Activation"):  # type: ignore[index]
            pointers[LIMIT] = ("packed", len(packed) - 1)
        if (added := added_operand(problem)) is not None:
            pointers[ADDED] = ("input", problem.activations.index(added))
        return Planned(code.blob, pointers, packed)


def _floor(problem: Problem) -> float:
    """Seconds that arithmetic or memory take at least, roughly."""
    moved = [problem.types[i].nbytes for i in (*problem.activations, *problem.outputs)]
    filters = problem.types[problem.layer.inputs[1]].concrete({})
    result = problem.types[problem.layer.outputs[0]].concrete({})
    flops = 2 * filters[1] * filters[2] * filters[3] * float(np.prod(result))
    return max(flops / 5e14, sum(n for n in moved if isinstance(n, int)) / 2 / 4e12)


def _activation(attrs: Any) -> tuple[str, float | None] | None:
    """An activation as a graph has it, its upper limit with it; None for those that it has not."""
    if attrs.function == "clip" and attrs.alpha == 0 and attrs.beta is not None and 0 < attrs.beta < 65504:
        return ("relu", float(attrs.beta))
    if attrs.function == "swish" and attrs.alpha in (None, 1.0):
        return ("swish", None)
    return (attrs.function, None) if attrs.function in ("relu", "sigmoid") else None


TAIL = SumTail(lambda attrs: _activation(attrs) is not None)


def _refusal(problem: Problem) -> str:
    layer = problem.layer
    if layer.kind != "Convolution" or layer.inputs[1] not in problem.constants:
        return "no convolution by constants"
    if not all(type.static for type in problem.types):
        return "a size that changes at run time"
    image, filters = problem.types[layer.inputs[0]], problem.types[layer.inputs[1]]
    if image.rank != 4 or image.dtype != "float32" or 0 in problem.types[layer.outputs[0]].shape or 0 in image.shape:
        return f"no image of float32: {image}"
    if layer.attrs.groups > 1 and any(n % 8 for n in (image.concrete({})[1], filters.concrete({})[0])):
        return "groups whose channels are no multiple of 8"
    bias = layer.inputs[2] if len(layer.inputs) > 2 else -1
    if bias >= 0 and bias not in problem.constants:
        return "a bias that is computed"
    if problem.outputs != (problem.layers[-1].outputs[0],):
        return "an interior result is wanted outside of the region"
    return TAIL.refusal(problem)


def variants(problem: Problem) -> dict[str, Description]:
    """The graphs that compute a problem: of every type, in either order of sums, channels padded to 16 bytes or, where
    there are few, to 8: 282 against 205 µs for the first layer at batch 128 in half precision."""
    layer = problem.layer
    images, channels, *sizes = problem.types[layer.inputs[0]].concrete({})
    outputs, inner, *window = problem.types[layer.inputs[1]].concrete({})
    result = problem.types[layer.outputs[0]].concrete({})
    attrs, made = layer.attrs, result[2:]
    before, after, stride, dilation = sliding(attrs, sizes, window)
    activation = next(
        (_activation(follower.attrs) for follower in problem.layers if follower.kind == "Activation"), None
    )
    added, biased = added_operand(problem) is not None, len(layer.inputs) > 2 and layer.inputs[2] >= 0
    found: dict[str, Description] = {}
    for stored, whole in _BLOCK.items():
        for block in (whole, 4) if channels <= 4 < whole else (whole,):
            depth, wide = inner if attrs.groups > 1 else _padded(channels, block), _padded(outputs, whole)
            key = f"c{block}" if stored == "float16" else f"c{block}:{stored}"
            found[key] = Description(
                (images, depth * attrs.groups, *sizes), (wide, depth, *window), (images, wide, *made), before, after,
                stride, dilation, biased, added, activation, stored=stored,
            )  # fmt: skip
            if added and biased:
                found[f"{key}:sum"] = replace(found[key], added_first=True)
    return found


def _padded(channels: int, block: int) -> int:
    return -(-channels // block) * block


Each = tuple[int, ...]  # of the axes of images


def sliding(attrs: Any, sizes: Sequence[int], window: Sequence[int]) -> tuple[Each, Each, Each, Each]:
    """Zeros before and after, strides and dilations of the axes of a window over images of these sizes."""
    axes = window_axes(
        window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding, attrs.padding_mode
    )  # fmt: skip
    before, after = zip(*(axis.padding(size) for axis, size in zip(axes, sizes, strict=True)), strict=True)
    return before, after, tuple(axis.stride for axis in axes), tuple(axis.dilation for axis in axes)


def _tactic(problem: Problem, variant: str, stored: str, name: str) -> Tactic:
    others = image_format(_BLOCK[stored], stored)
    image = image_format(4, stored) if variant.startswith("c4") else others
    inputs = tuple(image if i == problem.layer.inputs[0] else others for i in problem.activations)
    return Tactic(f"{variant}/{name}", inputs, (others,), PRECISIONS[stored], WORKSPACE)


def image_format(block: int, stored: str) -> Format:
    """Images with channels innermost and padded to a multiple of ``block``."""
    return Format((0, 2, 3, 1), ((1, block),), None if stored == "float32" else stored)
