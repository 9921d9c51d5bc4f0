"""A kernel for a layer that somebody else defined: max Pooling as one running maximum per element of the window.

The reference makes a padded copy and goes axis by axis, with a new array each time. Slices of the input need no copies,
but as many passes as the window has elements: that suits small windows, and the tuner decides for each problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic

DTYPES = ("float32", "float64")


class SlicePoolingKernel(Kernel):
    """Any window, stride, dilation and explicit padding; any shape at run time, and slices of larger buffers."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("Pooling",) or problem.inputs[0].role != "activation":
            return Support(False, "computes one Pooling of a computed tensor")
        attrs, given = problem.layer.attrs, problem.types[0]
        if attrs.function != "max" or attrs.with_indices:
            return Support(False, "computes maxima without their indices")
        if attrs.padding_mode not in ("explicit", "valid"):
            return Support(False, f"does not work out the padding of {attrs.padding_mode!r}")
        if given.dtype not in DTYPES:
            return Support(False, f"computes in {' or '.join(DTYPES)}, not in {given.dtype}")
        return Support(True, runtime_symbols="all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        return [Tactic(precision=problem.types[0].dtype, reads_strided=(0,), writes_strided=(0,))]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return SlicePooling(code.problem.layer.attrs)


class SlicePooling:
    """What the kernel binds: a stride, and an offset from the input's beginning for each element of the window."""

    def __init__(self, attrs: Any) -> None:
        rank = len(attrs.window)
        dilation = attrs.dilation or (1,) * rank
        pads = attrs.pre_padding if attrs.padding_mode == "explicit" and attrs.pre_padding else (0,) * rank
        axes = zip(attrs.window, dilation, pads, strict=True)
        self._stride = attrs.stride or (1,) * rank
        self._offsets = list(product(*([t * step - pad for t in range(size)] for size, step, pad in axes)))

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        [x], [y] = inputs, outputs
        y.fill(-np.inf)
        for offsets in self._offsets:
            ranges = [_overlap(*axis) for axis in zip(offsets, self._stride, x.shape[2:], y.shape[2:], strict=True)]
            target = y[(..., *(inside for inside, _ in ranges))]
            np.maximum(target, x[(..., *(seen for _, seen in ranges))], out=target)


def _overlap(offset: int, stride: int, size: int, positions: int) -> tuple[slice, slice]:
    """The output positions p with 0 <= p * stride + offset < size, and the input elements they see."""
    first = max(0, -(offset // stride))
    last = max(first, min(positions, (size - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first) * stride, stride)
