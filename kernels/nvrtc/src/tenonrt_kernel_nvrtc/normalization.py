"""Layer normalization over the last axis, with the sum before it where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

from tenonrt.contracts import LINEAR, Array, Code, GraphView, Layer, Problem, Tactic, Weights, only_reader

from tenonrt_kernel_nvrtc.kernel import BEGIN, CudaKernel
from tenonrt_kernel_nvrtc.rows import REDUCTIONS, RowPlan, fetched, plans
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, read, stored, write

# So many blocks keep a large GPU busy; of more rows each has several, for which it reads scale and bias once.
_MOST_BLOCKS = 132 * 8


class NormalizationKernel(CudaKernel):
    """LayerNormalization alone, or of a sum of two tensors, rows of up to 32768 elements; parameters are constants.

    Scale and bias are read before the results of earlier kernels are waited for: they come from far away.
    """

    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        if layer.kind == "LayerNormalization":
            yield (layer,)
        elif layer.attrs.operation == "sum":
            reader = only_reader(view, layer.outputs[0])
            if reader is not None and reader.kind == "LayerNormalization" and reader.inputs[0] is layer.outputs[0]:
                yield (layer, reader)

    def refuses(self, problem: Problem) -> str:
        last = problem.layers[-1]
        if last.kind != "LayerNormalization" or problem.kinds[:-1] not in ((), ("Elementwise",)):
            return "not a normalization, nor one of a sum"
        type = problem.types[last.outputs[0]]
        if len(last.outputs) != 1 or last.attrs.axis not in (-1, type.rank - 1) or type.dtype != "float32":
            return "statistics, another axis or another element type"
        if not all(i < 0 or (i in problem.constants and problem.types[i].rank == 1) for i in last.inputs[1:]):
            return "parameters that are computed"
        if problem.outputs != (last.outputs[0],) or not type.size:
            return "an interior result is wanted, or nothing is computed"
        if any(problem.types[i] != type for i in problem.activations) or len(problem.activations) != len(
            problem.layers
        ):
            return "a sum that broadcasts, or one with a constant or with itself"
        return "" if plans(int(type.shape[-1]), "float32") else "rows too long for registers"  # type: ignore[arg-type]

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        length, count = int(problem.types[problem.outputs[0]].shape[-1]), len(problem.activations)  # type: ignore[arg-type]
        return [
            Tactic(f"{storage}:{plan.threads}", (storage,) * count, (storage,), precision,
                   inplace=tuple((0, k) for k in range(count)))
            for storage, precision in ((LINEAR, "float32"), *((n.rows, n.dtype) for n in narrow))
            for plan in plans(length, precision)
        ]  # fmt: skip

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Scale, then bias, where they are there."""
        problem = code.problem
        given = dict(zip(problem.constants, weights.constants, strict=True))
        return [given[i] for i in problem.layers[-1].inputs[1:] if i >= 0]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        type = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        shape, dtype, count = type.concrete({}), stored(type), len(problem.activations)
        threads = int(tactic.key.rpartition(":")[2])
        plan = next(plan for plan in plans(shape[-1], dtype) if plan.threads == threads)
        layer, rows = problem.layers[-1], prod(shape[:-1])
        names = [name for name, i in zip(("scale", "bias"), [*layer.inputs[1:], -1, -1], strict=False) if i >= 0]
        body = "\n    ".join(_lines(plan, dtype, shape[-1], count, names, layer.attrs.epsilon))
        blocks = min(-(-rows // plan.rows), _MOST_BLOCKS)
        lines = [
            *plan.place("first"), *_parameters(plan, names), BEGIN,
            f"for (int row = first; row < {rows}; row += {blocks * plan.rows}) {{", body, "}",
        ]  # fmt: skip
        ctype = C_TYPES[dtype]
        parameters = [
            f"{ctype} *out",
            *(f"const {ctype} *x{k}" for k in range(count)),
            *(f"const float *{n}" for n in names),
        ]
        body = "\n    ".join(lines)
        source = f'extern "C" __global__ void kernel({", ".join(parameters)}) {{\n    {body}\n}}\n'
        return REDUCTIONS + source, {"grid": (blocks,), "block": (plan.rows * plan.threads,)}


def _parameters(plan: RowPlan, names: Sequence[str]) -> list[str]:
    total = plan.pieces * plan.vector
    return [
        f"float {name}_v[{total}]; " + plan.each(plan.elements(f"{name}_v[i * {plan.vector} + j] = {name}[at + j];"))
        for name in names
    ]


def _lines(plan: RowPlan, dtype: str, length: int, count: int, names: Sequence[str], epsilon: float) -> list[str]:
    vector, total, offset = plan.vector, plan.pieces * plan.vector, f"row * {length} + at"
    keep = f"v[i * {vector} + j]"
    loads = "".join(f"auto p{k} = {fetched(f'x{k}', dtype, vector, offset)}; " for k in range(count))
    added = " + ".join(read(dtype, f"p{k}.e[j]") for k in range(count))
    scaled = (
        f"{keep} * r"
        + (f" * scale_v[i * {vector} + j]" if "scale" in names else "")
        + (f" + bias_v[i * {vector} + j]" if "bias" in names else "")
    )
    return [
        f"float v[{total}]; for (int i = 0; i < {total}; ++i) v[i] = 0.f;",
        plan.each(loads + plan.elements(f"{keep} = {added};")),
        f"float s = 0.f; for (int i = 0; i < {total}; ++i) s += v[i];",
        f"const float mean = row_sum<{plan.threads}>(s) / {length}.f; float q = 0.f;",
        plan.each(plan.elements(f"{keep} -= mean; q += {keep} * {keep};")),
        f"const float r = rsqrtf(row_sum<{plan.threads}>(q) / {length}.f + {epsilon!r}f);",
        plan.each(f"Vec<{C_TYPES[dtype]}, {vector}> p; " + plan.elements(f"p.e[j] = {write(dtype, scaled)};")
                  + f" put(out + {offset}, p);"),
    ]  # fmt: skip
