"""Layer normalization over the last axis, with the sum before it and what quantizes the result where there are some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

from tenonrt.contracts import (
    BYTES,
    LINEAR,
    Array,
    Code,
    GraphView,
    Layer,
    Problem,
    ProblemLayer,
    Tactic,
    Weights,
    only_reader,
)

from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.kernel import BEGIN, CudaKernel
from tenonrt_kernel_nvrtc.quantizing import Quantizing
from tenonrt_kernel_nvrtc.reductions.rows import REDUCTIONS, RowPlan, fetched, plans
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, read, stored, write

# So many blocks keep a large GPU busy; of more rows each has several, for which it reads scale and bias once.
_MOST_BLOCKS = 132 * 8


class NormalizationKernel(CudaKernel):
    """LayerNormalization alone, or of a sum of two tensors, rows of up to 32768 elements; parameters are constants.

    Quantized in the same pass, the result may be wanted in real numbers too, as a transformer's residual sums want it.
    Scale and bias are read before the results of earlier kernels are waited for: they come from far away.
    """

    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        if layer.kind == "LayerNormalization":
            yield (layer,)
            yield from ((layer, quantize) for quantize in _quantizes(view, layer))
        elif layer.attrs.operation == "sum":
            reader = only_reader(view, layer.outputs[0])
            if reader is not None and reader.kind == "LayerNormalization" and reader.inputs[0] is layer.outputs[0]:
                yield (layer, reader)
                yield from ((layer, reader, quantize) for quantize in _quantizes(view, reader))

    def refuses(self, problem: Problem) -> str:
        found = _read(problem)
        if isinstance(found, str):
            return found
        norm, quantize = found
        type = problem.types[norm.outputs[0]]
        if len(norm.outputs) != 1 or norm.attrs.axis not in (-1, type.rank - 1) or type.dtype != "float32":
            return "statistics, another axis or another element type"
        if not all(i < 0 or (i in problem.constants and problem.types[i].rank == 1) for i in norm.inputs[1:]):
            return "parameters that are computed"
        if not {*problem.outputs} <= {norm.outputs[0], problem.layers[-1].outputs[0]} or not type.size:
            return "an interior result is wanted, or nothing is computed"
        terms = len(problem.layers) - (quantize is not None)
        if any(problem.types[i] != type for i in problem.activations) or len(problem.activations) != terms:
            return "a sum that broadcasts, or one with a constant or with itself"
        why = "" if quantize is None else refusal(problem, quantize)
        return why or ("" if plans(int(type.shape[-1]), "float32") else "rows too long for registers")  # type: ignore[arg-type]

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        length, count = int(problem.types[problem.outputs[0]].shape[-1]), len(problem.activations)  # type: ignore[arg-type]
        real = [k for k, i in enumerate(problem.outputs) if problem.types[i].dtype not in BYTES]
        return [
            Tactic(f"{storage}:{plan.threads}", (storage,) * count,
                   tuple(storage if k in real else LINEAR for k in range(len(problem.outputs))), precision,
                   inplace=tuple((o, k) for o in real for k in range(count)))
            for storage, precision in ((LINEAR, "float32"), *((n.rows, n.dtype) for n in narrow))
            for plan in plans(length, precision)
        ]  # fmt: skip

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Scale, then bias, where they are there; of what quantizes scale and zero point."""
        given = dict(zip(code.problem.constants, weights.constants, strict=True))
        quantizing = _quantizing(code.problem)
        numbers = [*_named(code.problem).values(), *([] if quantizing is None else quantizing.packed)]
        return [given[i] for i in numbers]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        norm, _ = _parted(problem)
        type, dtype = problem.types[norm.outputs[0]], tactic.input_format(0).dtype or "float32"
        shape, count = type.concrete({}), len(problem.activations)
        threads = int(tactic.key.rpartition(":")[2])
        plan = next(plan for plan in plans(shape[-1], dtype) if plan.threads == threads)
        rows, names, quantizing = prod(shape[:-1]), list(_named(problem)), _quantizing(problem)
        body = "\n    ".join(_lines(plan, dtype, problem, count, names))
        blocks = min(-(-rows // plan.rows), _MOST_BLOCKS)
        lines = [
            *plan.place("first"), *_parameters(plan, names), "" if quantizing is None else quantizing.once, BEGIN,
            f"for (int row = first; row < {rows}; row += {blocks * plan.rows}) {{", body, "}",
        ]  # fmt: skip
        parameters = [
            *(f"{C_TYPES[stored(problem.types[i].stored_as(tactic.output_format(k)))]} *{_result(problem, i)}"
              for k, i in enumerate(problem.outputs)),
            *(f"const {C_TYPES[dtype]} *x{k}" for k in range(count)),
            *(f"const float *{n}" for n in names), *([] if quantizing is None else quantizing.parameters),
        ]  # fmt: skip
        body = "\n    ".join(lines)
        source = f'extern "C" __global__ void kernel({", ".join(parameters)}) {{\n    {body}\n}}\n'
        return REDUCTIONS + source, {"grid": (blocks,), "block": (plan.rows * plan.threads,)}


def _quantizes(view: GraphView, norm: Layer) -> list[Layer]:
    """What quantizes a result, where one layer does."""
    found = [layer for layer in view.consumers(norm.outputs[0]) if layer.kind == "Quantize"]
    return found if len(found) == 1 and len(norm.outputs) == 1 else []


def _read(problem: Problem) -> tuple[ProblemLayer, ProblemLayer | None] | str:
    """The normalization and what quantizes its result, or why there is none."""
    norm, quantize = _parted(problem)
    before = problem.kinds[: problem.layers.index(norm)]
    if norm.kind != "LayerNormalization" or before not in ((), ("Elementwise",)):
        return "not a normalization, nor one of a sum"
    if quantize is not None and quantize.inputs[0] != norm.outputs[0]:
        return "something else is quantized"
    return norm, quantize


def _parted(problem: Problem) -> tuple[ProblemLayer, ProblemLayer | None]:
    """The last layer, and the Quantize behind it where there is one."""
    *others, last = problem.layers
    return (others[-1], last) if last.kind == "Quantize" and others else (last, None)


def _named(problem: Problem) -> dict[str, int]:
    """The parameters of the normalization by their names in the source."""
    inputs = zip(("scale", "bias"), _parted(problem)[0].inputs[1:], strict=False)
    return {name: i for name, i in inputs if i >= 0}


def _quantizing(problem: Problem) -> Quantizing | None:
    quantize = _parted(problem)[1]
    return None if quantize is None else Quantizing(problem, quantize)


def _result(problem: Problem, number: int) -> str:
    """The name of an output."""
    return "out" if number == _parted(problem)[0].outputs[0] else "bytes"


def _parameters(plan: RowPlan, names: Sequence[str]) -> list[str]:
    total = plan.pieces * plan.vector
    return [
        f"float {name}_v[{total}]; " + plan.each(plan.elements(f"{name}_v[i * {plan.vector} + j] = {name}[at + j];"))
        for name in names
    ]


def _lines(plan: RowPlan, dtype: str, problem: Problem, count: int, names: Sequence[str]) -> list[str]:
    norm = _parted(problem)[0]
    length, vector, total = plan.length, plan.vector, plan.pieces * plan.vector
    offset, keep = f"row * {length} + at", f"v[i * {vector} + j]"
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
        f"const float r = rsqrtf(row_sum<{plan.threads}>(q) / {length}.f + {norm.attrs.epsilon!r}f);",
        *(plan.each(_put(plan, problem, number, dtype, scaled, offset)) for number in problem.outputs),
    ]


def _put(plan: RowPlan, problem: Problem, number: int, dtype: str, value: str, offset: str) -> str:
    """An output of a vector of elements, which are quantized for bytes."""
    name, quantizing = _result(problem, number), _quantizing(problem)
    ctype, element = C_TYPES[dtype], write(dtype, value)
    if name == "bytes" and quantizing is not None:
        ctype, element = quantizing.ctype, quantizing.element(value)
    return f"Vec<{ctype}, {plan.vector}> p; " + plan.elements(f"p.e[j] = {element};") + f" put({name} + {offset}, p);"
