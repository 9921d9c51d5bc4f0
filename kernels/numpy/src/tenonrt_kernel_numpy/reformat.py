"""Reformat: from one storage format to another, layout and element type at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import (
    Array,
    Code,
    Executable,
    Format,
    Kernel,
    Problem,
    Support,
    Tactic,
    Weights,
    is_float,
    load,
    logical_shape,
    store,
)

# Stored types of a symmetric linear quantization: stored = round_to_even(real / scale), saturated.
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}


class ReformatKernel(Kernel):
    """Any axis order and blocks; between floating-point types; to and from int8 and uint8 by the bound scales."""

    def supports(self, problem: Problem) -> Support:
        if problem.kinds != ("Reformat",) or len(problem.activations) != 1:
            return Support(False, f"only a Reformat of a computed tensor, not {'+'.join(problem.kinds)}")
        formats = (problem.layer.attrs.source, problem.layer.attrs.target)
        given = problem.types[problem.layer.inputs[0]]
        why = next(filter(None, (_refusal(f, given.rank, given.dtype) for f in formats)), "")
        if why:
            return Support(False, why)
        fixed = {name for axis, _ in formats[0].blocks for name in given.reshape([given.shape[axis]]).symbol_names()}
        return Support(True, runtime_symbols=tuple(sorted(given.symbol_names() - fixed)) if fixed else "all")

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        source, target = problem.layer.attrs.source, problem.layer.attrs.target
        stored = [f.dtype or problem.types[problem.layer.inputs[0]].dtype for f in (source, target)]
        narrow = next((d for d in ("bfloat16", "float16", "float32") if d in stored), "float32")
        return (Tactic("copy", (source,), (target,), narrow, reads_strided=(0,), writes_strided=(0,)),)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The scales of the quantized sides, the source's first."""
        attrs = code.problem.layer.attrs
        sides = ((attrs.source, weights.input_scales), (attrs.target, weights.output_scales))
        return [_scale(storage, scales) for storage, scales in sides if storage.quant is not None]

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return ReformatExecutable(code.problem, packed)


class ReformatExecutable:
    """Reads logical values, scales them where asked, and stores them."""

    def __init__(self, problem: Problem, packed: Sequence[Array]) -> None:
        attrs = problem.layer.attrs
        self._type = problem.types[problem.layer.inputs[0]]
        self._source, self._target = attrs.source, attrs.target
        scales = iter(packed)
        self._multiplier = self._spread(attrs.source, scales)
        self._divisor = self._spread(attrs.target, scales)

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        shape = logical_shape(inputs[0].shape, self._source, self._type.shape)
        values = load(inputs[0], self._source, shape)
        if self._multiplier is not None:
            values = values.astype(self._multiplier.dtype) * self._multiplier
        if self._divisor is not None:
            lower, upper = LIMITS[self._target.dtype or self._type.dtype]
            values = np.clip(np.rint(values / self._divisor), lower, upper)
        store(values, self._target, outputs[0])

    def _spread(self, storage: Format, scales: Any) -> Array | None:
        """The scale in the shape that meets its axis of the logical values, None where the format has none."""
        if storage.quant is None:
            return None
        scale: Array = next(scales).astype(np.float64 if self._type.dtype == "float64" else np.float32)
        if storage.quant.axis is None:
            return scale.reshape(())
        return scale.reshape([-1 if axis == storage.quant.axis else 1 for axis in range(self._type.rank)])


def _refusal(storage: Format, rank: int, dtype: str) -> str:
    if storage.order and sorted(storage.order) != list(range(rank)):
        return f"format {storage} orders {len(storage.order)} axes, the tensor has {rank}"
    if any(not 0 <= axis < rank or size < 1 for axis, size in storage.blocks):
        return f"format {storage} has a block outside of the tensor's {rank} axes"
    if storage.quant is None:
        stored = storage.dtype or dtype
        changes = stored != dtype and not (is_float(stored) and is_float(dtype))
        return f"storing {dtype} as {stored} needs a quantization scheme" if changes else ""
    if storage.dtype not in LIMITS or not is_float(dtype):
        return (
            f"quantized storage of {dtype} as {storage.dtype}; known are {', '.join(LIMITS)} of floating-point tensors"
        )
    if storage.quant.zero_point_dtype is not None or storage.quant.block is not None:
        return "zero points and blocks of scales are not bound to reformats"
    if storage.quant.axis is not None and not 0 <= storage.quant.axis < rank:
        return f"the scale's axis {storage.quant.axis} is outside of the tensor's {rank} axes"
    return ""


def _scale(storage: Format, scales: Sequence[Array | None]) -> Array:
    scale = scales[0] if scales else None
    if scale is None:
        raise ValueError(f"format {storage} is quantized, and no scale was given with the weights")
    return scale
