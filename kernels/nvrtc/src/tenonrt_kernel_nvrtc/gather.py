"""Gather along an axis, and GatherND by constant indices: runs of elements from where the indices say.

An index that depends on data is kept inside of the table: a launch cannot raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from tenonrt.contracts import LINEAR, Array, Code, Problem, Tactic, Weights, normalize_axis, numpy_dtype

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, is_real, item_bytes


class GatherKernel(CudaKernel):
    """Tables that are computed or constant, of any element type."""

    def refuses(self, problem: Problem) -> str:
        if len(problem.layers) != 1 or not problem.types[problem.outputs[0]].size:
            return "more than one layer, or nothing to compute"
        data, indices = problem.layer.inputs
        if problem.types[indices].dtype not in ("int64", "int32"):
            return "indices of another type"
        if problem.layer.kind == "Gather":
            return "" if problem.activations else "nothing is computed"
        constant = indices in problem.constants and data in problem.activations
        return "" if constant and not problem.layer.attrs.batch_dims else "indices that are computed, or batches"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        data = problem.layer.inputs[0]
        wanted = {"float32": LINEAR}
        wanted |= {n.dtype: n.rows for n in narrow} if is_real(problem.types[data].dtype) else {}
        return [
            Tactic(str(f), tuple(f if i == data else LINEAR for i in problem.activations), (f,), precision)
            for precision, f in wanted.items()
        ]

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """The table as it is stored, or the indices; those of GatherND as offsets of the runs they pick."""
        problem, given = code.problem, dict(zip(code.problem.constants, weights.constants, strict=True))
        data, indices = problem.layer.inputs
        packed = []
        if data in given:
            packed.append(given[data].astype(numpy_dtype(_dtype(code.tactic, problem))))
        if indices in given:
            packed.append(_offsets(problem, given[indices]) if problem.layer.kind == "GatherND" else given[indices])
        return packed

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        data, indices = problem.layer.inputs
        dtype, ctype = _dtype(tactic, problem), C_TYPES[_dtype(tactic, problem)]
        runs = _Runs.of(problem)
        vector = 16 // item_bytes(dtype)
        while runs.length % vector:
            vector //= 2
        threads = runs.outer * runs.count * runs.length // vector
        itype = "int" if problem.layer.kind == "GatherND" else C_TYPES[problem.types[indices].dtype]
        pointers = {data: f"const {ctype} *data", indices: f"const {itype} *indices"}
        order = [*problem.activations, *(i for i in (data, indices) if i in problem.constants)]
        parameters = ", ".join([f"{ctype} *out", *(pointers[i] for i in order)])
        source = f"""extern "C" __global__ void kernel({parameters}) {{
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= {threads}) return;
    const int at = t % {runs.length // vector} * {vector}, run = t / {runs.length // vector};
    long long i = indices[run % {runs.count}];
    if (i < 0) i += {runs.table};
    i = i < 0 ? 0 : i >= {runs.table} ? {runs.table - 1} : i;
    put(out + (long long)run * {runs.length} + at,
        fetch<{ctype}, {vector}>(data + ((run / {runs.count}) * {runs.table}ll + i) * {runs.length} + at));
}}
"""
        return source, {"grid": grid(threads, BLOCK), "block": (BLOCK,)}


def _dtype(tactic: Tactic, problem: Problem) -> str:
    return tactic.output_format(0).dtype or problem.types[problem.outputs[0]].dtype


class _Runs:
    """out[outer, count, length] = data[outer, indices[count], length], of a table of so many runs."""

    def __init__(self, outer: int, table: int, count: int, length: int) -> None:
        self.outer, self.table, self.count, self.length = outer, table, count, length

    @classmethod
    def of(cls, problem: Problem) -> _Runs:
        data, indices = (problem.types[i].concrete({}) for i in problem.layer.inputs)
        if problem.layer.kind == "GatherND":
            depth = indices[-1]
            return cls(1, prod(data[:depth]), prod(indices[:-1]), prod(data[depth:]))
        axis = normalize_axis(problem.layer.attrs.axis, len(data))
        return cls(prod(data[:axis]), data[axis], prod(indices), prod(data[axis + 1 :]))


def _offsets(problem: Problem, indices: Array) -> Array:
    shape = problem.types[problem.layer.inputs[0]].concrete({})[: indices.shape[-1]]
    positive = np.where(indices < 0, indices + np.array(shape), indices)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(positive, -1, 0)), shape), np.int32)
