"""Convolution as matrix products through BLAS, image by image, in memory that the tactic declares.

Tactics: ``pointwise`` multiplies the image itself (1x1 windows); ``im2col`` gathers all windows into columns first;
``shifted`` sums one product per element of the window over shifted slices of the padded image, which copies the image
once instead of once per element (stride 1); ``depthwise`` does the same with products of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Dimension,
    Executable,
    GraphView,
    Kernel,
    Layer,
    Problem,
    Support,
    Tactic,
    Weights,
    product,
)

from tenonrt_kernel_numpy.tail import finish, read_tail, regions_with_tail
from tenonrt_kernel_numpy.window import D, windows

DTYPES = ("float32", "float64")


class ConvolutionKernel(Kernel):
    """float32 and float64, 1 to 3 spatial axes, any groups, stride, dilation, padding and batch; constant weights."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return regions_with_tail(view, layer)

    def supports(self, problem: Problem) -> Support:
        why = _refusal(problem)
        return Support(False, why) if why else Support(True, runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        precision = problem.types[0].dtype
        return [Tactic(key, precision=precision, workspace=_workspace(problem, key)) for key in _methods(problem)]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights as [groups, K/groups, C/groups * R], for ``shifted`` and ``depthwise`` as one such matrix per element
        of the window; bias as a column."""
        layer = code.problem.layer
        arrays = dict(zip(code.problem.constants, weights.constants, strict=True))
        kernel = arrays[layer.inputs[1]]
        groups, outputs, depth = layer.attrs.groups, len(kernel), kernel.shape[1]
        matrix = kernel.reshape(groups, outputs // groups, -1)
        if code.tactic.key in ("shifted", "depthwise"):
            taps = kernel.reshape(groups, outputs // groups, depth, -1)
            matrix = np.ascontiguousarray(np.moveaxis(taps, -1, 0))
        bias = arrays.get(_bias(problem=code.problem))
        return [matrix] if bias is None else [matrix, bias.reshape(-1, *[1] * (kernel.ndim - 2))]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return ConvolutionExecutable(code.problem, code.tactic.key, packed)


class ConvolutionExecutable:
    """One product for each image, finished while its result is in the caches."""

    def __init__(self, problem: Problem, method: str, packed: Sequence[Array]) -> None:
        self._weights = packed[0]
        self._bias = packed[1] if len(packed) > 1 else None
        tail = read_tail(problem)
        assert not isinstance(tail, str), tail
        self._tail = tail
        self._source = problem.activations.index(problem.layer.inputs[0])
        self._windows = windows(problem)
        methods = {
            "pointwise": self._pointwise,
            "im2col": self._im2col,
            "shifted": self._shifted,
            "depthwise": self._depthwise,
        }
        self._multiply: Callable[[Array, Array, Any], None] = methods[method]

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        if not outputs[0].size:
            return
        for index, result in enumerate(outputs[0]):
            self._multiply(inputs[self._source][index], result, workspace)
            finish(result, self._bias, self._tail, [operand[index] for operand in inputs])

    def _pointwise(self, image: Array, result: Array, workspace: Any) -> None:
        groups, depth = self._weights.shape[0], self._weights.shape[2]
        target = result.reshape(groups, len(result) // groups, -1)
        np.matmul(self._weights, image.reshape(groups, depth, -1), out=target)

    def _im2col(self, image: Array, result: Array, workspace: Any) -> None:
        groups, depth = self._weights.shape[0], self._weights.shape[2]
        padded, rest = self._padded(image, result.shape[1:], workspace)
        elements = [w.size for w in self._windows]
        columns, _ = _take(rest, (len(image), *elements, *result.shape[1:]), image.dtype)
        steps = padded.strides[1:]
        seen = np.lib.stride_tricks.as_strided(
            padded,
            columns.shape,
            (
                padded.strides[0],
                *(w.dilation * step for w, step in zip(self._windows, steps, strict=True)),
                *(w.stride * step for w, step in zip(self._windows, steps, strict=True)),
            ),
        )
        np.copyto(columns, seen)
        target = result.reshape(groups, len(result) // groups, -1)
        np.matmul(self._weights, columns.reshape(groups, depth, -1), out=target)

    def _shifted(self, image: Array, result: Array, workspace: Any) -> None:
        """Shifting the flattened padded image shifts every window; the sums between two rows are computed in vain."""
        groups, outputs, depth = self._weights.shape[1:]
        padded, rest = self._padded(image, result.shape[1:], workspace)
        pitches = [step // image.itemsize for step in padded.strides[1:]]
        length = sum((n - 1) * pitch for n, pitch in zip(result.shape[1:], pitches, strict=True)) + 1
        total, rest = _take(rest, (groups, outputs, length), image.dtype)
        term, _ = _take(rest, total.shape, image.dtype)
        flat = padded.reshape(groups, depth, -1)
        for index, tap in enumerate(np.ndindex(*(w.size for w in self._windows))):
            start = sum(t * w.dilation * pitch for t, w, pitch in zip(tap, self._windows, pitches, strict=True))
            np.matmul(self._weights[index], flat[:, :, start : start + length], out=term if index else total)
            if index:
                np.add(total, term, out=total)
        wide = (length * image.itemsize, *padded.strides[1:])
        np.copyto(result, np.lib.stride_tricks.as_strided(total, result.shape, wide))

    def _depthwise(self, image: Array, result: Array, workspace: Any) -> None:
        groups, outputs, _ = self._weights.shape[1:]
        padded, rest = self._padded(image, result.shape[1:], workspace)
        total = result.reshape(groups, outputs, *result.shape[1:])
        term, _ = _take(rest, total.shape, image.dtype)
        for index, tap in enumerate(np.ndindex(*(w.size for w in self._windows))):
            seen = padded[(slice(None), None, *self._slices(tap, result.shape[1:]))]
            factor = self._weights[index].reshape(groups, outputs, *[1] * len(tap))
            np.multiply(seen, factor, out=term if index else total)
            if index:
                np.add(total, term, out=total)

    def _slices(self, tap: Sequence[int], positions: Sequence[int]) -> list[slice]:
        """What one element of the window meets at all positions."""
        starts = [t * w.dilation for t, w in zip(tap, self._windows, strict=True)]
        ends = [s + (n - 1) * w.stride + 1 for s, n, w in zip(starts, positions, self._windows, strict=True)]
        return [slice(s, e, w.stride) for s, e, w in zip(starts, ends, self._windows, strict=True)]

    def _padded(self, image: Array, positions: Sequence[int], workspace: Any) -> tuple[Array, Any]:
        """What the windows touch of an image, with zeros around it, and the workspace left; itself if that is all."""
        touched = [w.touched(n) for w, n in zip(self._windows, positions, strict=True)]
        before = [w.before(n, size) for w, n, size in zip(self._windows, positions, image.shape[1:], strict=True)]
        if list(image.shape[1:]) == touched and not any(before):
            return image, workspace
        padded, rest = _take(workspace, (len(image), *touched), image.dtype)
        padded.fill(0)
        kept = [min(size, t - b) for size, t, b in zip(image.shape[1:], touched, before, strict=True)]
        inside = tuple(slice(b, b + k) for b, k in zip(before, kept, strict=True))
        padded[(slice(None), *inside)] = image[(slice(None), *(slice(k) for k in kept))]
        return padded, rest


def _take(workspace: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[Array, Any]:
    """An array at the beginning of the workspace, and what follows it at the next multiple of 64 bytes."""
    nbytes = prod(shape) * dtype.itemsize
    taken: Array = workspace[:nbytes].view(dtype).reshape(shape)
    return taken, workspace[_aligned(nbytes) :]


def _aligned(nbytes: D) -> D:
    return (nbytes + 63) // 64 * 64


def _bias(problem: Problem) -> int:
    """The tensor of the bias, -1 when there is none."""
    inputs = problem.layer.inputs
    return inputs[2] if len(inputs) > 2 else -1


def _methods(problem: Problem) -> list[str]:
    """Keys of the tactics, best guess first."""
    axes, depth = windows(problem), problem.types[problem.layer.inputs[1]].shape[1]
    if all(w.size == w.stride == 1 and not w.pads for w in axes):
        return ["pointwise"]
    if depth == 1:
        return ["depthwise", "im2col"]
    return ["im2col", "shifted"] if all(w.stride == 1 for w in axes) else ["im2col"]


def _workspace(problem: Problem, method: str) -> Dimension:
    """Bytes: the padded image, then the columns, or the sum and one term of it."""
    axes, result = windows(problem), problem.types[problem.layer.outputs[0]]
    positions = result.shape[2:]
    touched = [w.touched(n) for w, n in zip(axes, positions, strict=True)]
    item = result.numpy.itemsize
    channels: Dimension = problem.types[problem.layer.inputs[1]].shape[1] * problem.layer.attrs.groups
    image = _aligned(channels * product(touched) * item)
    if method == "pointwise":
        return 0
    if method == "im2col":
        return image + _aligned(channels * prod(w.size for w in axes) * product(positions) * item)
    if method == "depthwise":
        return image + _aligned(result.shape[1] * product(positions) * item)
    return image + 2 * _aligned(result.shape[1] * product(touched) * item)


def _refusal(problem: Problem) -> str:
    layer = problem.layer
    if layer.kind != "Convolution":
        return f"the region begins with {layer.kind}"
    source, weights = (problem.types[t] for t in layer.inputs[:2])
    dtypes = {problem.types[t].dtype for t in range(len(problem.types))}
    if len(dtypes) != 1 or source.dtype not in DTYPES:
        return f"computes in {' or '.join(DTYPES)}; the region has {', '.join(sorted(dtypes))}"
    if layer.inputs[0] not in problem.activations or layer.inputs[1] not in problem.constants:
        return "the input must be computed and the weights constant"
    if _bias(problem) not in (-1, *problem.constants):
        return "the bias must be constant"
    if not weights.static or not isinstance(problem.types[layer.outputs[0]].shape[1], int):
        return "the shape of the weights must be known"
    if 0 in weights.shape:
        return "the weights are empty"
    if not 1 <= source.rank - 2 <= 3:
        return f"1 to 3 spatial axes, not {source.rank - 2}"
    tail = read_tail(problem)
    return tail if isinstance(tail, str) else ""
