"""Reductions: over the pixels of images, and over the last axes of tensors stored row by row."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from tenonrt.contracts import LINEAR, Problem, Tactic, TensorType

from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.reductions.rows import REDUCTIONS
from tenonrt_kernel_nvrtc.storage import C_TYPES, Axes, Narrow, read, stored, write

# Threads of a block: groups of channels side by side, and pixels that are shared out.
_GROUPS, _SPLIT = 16, 16


class ReduceKernel(CudaKernel):
    """mean, sum and max, of float32 tensors."""

    def refuses(self, problem: Problem) -> str:
        layer, type = problem.layer, problem.types[problem.layer.inputs[0]]
        if len(problem.layers) != 1 or layer.kind not in ("Reduce", "Pooling") or type.dtype != "float32":
            return "another layer or element type"
        if not type.size or layer.attrs.operation not in ("mean", "sum", "max") or not problem.activations:
            return "an empty tensor or another operation"
        return "" if _axes(problem) else "axes that are not the last ones"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        source, result = problem.types[problem.layer.inputs[0]], problem.types[problem.outputs[0]]
        images = source.rank == 4 and _axes(problem) == (2, 3)
        found = [Tactic("rows", (LINEAR,), (LINEAR,))]
        for n in narrow:
            found.append(Tactic(n.key("rows:half"), (n.rows,), (n.rows,), n.dtype))
            targets = {"half": n.rows, "float": LINEAR} if images else {}
            targets |= {"nhwc": n.channels_8} if images and result.rank == 4 else {}
            found += [
                Tactic(n.key(f"images:{name}"), (n.channels_8,), (target,), n.dtype, reads_strided=(0,))
                for name, target in targets.items()
            ]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        size = problem.types[problem.layer.inputs[0]].nbytes
        return 2e-6 + (size if isinstance(size, int) else 0) / 3e12

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        source = problem.types[problem.layer.inputs[0]].stored_as(tactic.input_format(0))
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        operation = problem.layer.attrs.operation
        if tactic.key.startswith("images"):
            return _images(source, result, operation)
        axes = _axes(problem)
        assert axes
        shape = source.concrete({})
        return _rows(prod(shape[: axes[0]]), prod(shape[axes[0] :]), stored(source), operation)


def _axes(problem: Problem) -> tuple[int, ...] | None:
    """The axes reduced, where they are the last ones."""
    rank, given = problem.types[problem.layer.inputs[0]].rank, problem.layer.attrs.axes
    axes = tuple(sorted({a % rank for a in given})) if given is not None else tuple(range(rank))
    return axes if axes and axes == tuple(range(rank - len(axes), rank)) else None


def _step(operation: str, value: str) -> str:
    return f"(({value}) > a || ({value}) != ({value})) ? ({value}) : a" if operation == "max" else f"a + ({value})"


def _rows(count: int, length: int, dtype: str, operation: str) -> tuple[str, dict[str, Any]]:
    """A warp to a row."""
    ctype, start = C_TYPES[dtype], "-infinity()" if operation == "max" else "0.f"
    total = "row_max<32>(a)" if operation == "max" else "row_sum<32>(a)"
    scale = f" * {1 / length!r}f" if operation == "mean" else ""
    body = f"""
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= {count}) return;
    float a = {start};
    for (int i = lane; i < {length}; i += 32) {{
        const float v = {read(dtype, f"x[(long long)row * {length} + i]")}; a = {_step(operation, "v")};
    }}
    a = {total};
    if (lane == 0) out[row] = {write(dtype, f"a{scale}")};
"""
    return f'{REDUCTIONS}extern "C" __global__ void kernel({ctype} *out, const {ctype} *x) {{{body}}}\n', {
        "grid": grid(count, 4), "block": (128,),
    }  # fmt: skip


def _images(source: TensorType, result: TensorType, operation: str) -> tuple[str, dict[str, Any]]:
    """A block has 16 groups of 8 channels; 16 threads share the pixels of each."""
    images, channels, height, width = source.concrete({})
    groups, pixels, padded = (
        Axes.of(source).sizes[-1] // 8,
        height * width,
        Axes.of(result).sizes[-1] if (result.format.blocks) else channels,
    )
    start = "-infinity()" if operation == "max" else "0.f"
    combine = _step(operation, "parts[k][g][j]")
    scale = f" * {1 / pixels!r}f" if operation == "mean" else ""
    out = stored(result)
    body = f"""
    __shared__ float parts[{_SPLIT}][{_GROUPS}][8];
    const int g = threadIdx.x % {_GROUPS}, k0 = threadIdx.x / {_GROUPS};
    const int group = blockIdx.x * {_GROUPS} + g, n = blockIdx.y;
    float s[8]; for (int j = 0; j < 8; ++j) s[j] = {start};
    if (group < {groups}) for (int i = k0; i < {pixels}; i += {_SPLIT}) {{
        const auto e = fetch<narrow_t, 8>(x + (long long)(n * {pixels} + i) * x_pitch + group * 8);
        for (int j = 0; j < 8; ++j) {{
            const float v = to_float(e.e[j]); float a = s[j]; s[j] = {_step(operation, "v")};
        }}
    }}
    for (int j = 0; j < 8; ++j) parts[k0][g][j] = s[j];
    __syncthreads();
    const int j = threadIdx.x % 8, c = (blockIdx.x * {_GROUPS} + threadIdx.x / 8) * 8 + j;
    if (threadIdx.x < {_GROUPS * 8} && c < {padded}) {{
        const int g = threadIdx.x / 8; float a = parts[0][g][j];
        for (int k = 1; k < {_SPLIT}; ++k) a = {combine};
        out[n * {padded} + c] = {write(out, f"a{scale}")};
    }}
"""
    text = f'extern "C" __global__ void kernel({C_TYPES[out]} *out, const narrow_t *x, int x_pitch) {{{body}}}\n'
    return text, {"grid": (-(-groups // _GROUPS), images), "block": (_GROUPS * _SPLIT,), "pitches": (1,)}
