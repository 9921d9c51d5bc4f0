"""Pointwise regions of any length in one pass: operands are read once, with broadcasting, and the result written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tenonrt.contracts import (
    BYTES,
    LINEAR,
    Array,
    Code,
    Format,
    GraphView,
    Layer,
    Problem,
    Tactic,
    TensorType,
    Weights,
    broadcasts_to,
)

from tenonrt_kernel_nvrtc.expressions import KINDS, QUANTIZING, QUICK, constant, expression, parameters, refusal
from tenonrt_kernel_nvrtc.growing import absorbs, grow
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK, Access, Map, Writer, access, function
from tenonrt_kernel_nvrtc.storage import ROUNDING, Narrow, formats_for, is_real, known, value_type

_KINDS = KINDS | QUANTIZING


class PointwiseKernel(CudaKernel):
    """floats, int32, int64, bool and bytes, of any rank; rows, or channels innermost in 16 bits."""

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        yield (layer,)
        if layer.kind in _KINDS and not absorbs(view, layer, _KINDS):
            region = grow(view, [layer], kinds=_KINDS)
            if len(region) > 1:
                yield region

    def refuses(self, problem: Problem) -> str:
        why = next(filter(None, (refusal(problem, layer) for layer in problem.layers)), "")
        if why or problem.outputs != (problem.layers[-1].outputs[0],):
            return why or "its result is not that of the last layer alone"
        result = problem.types[problem.outputs[0]]
        ins = [problem.types[i] for i in range(len(problem.inputs))]
        return "" if all(broadcasts_to(t.shape, result.shape) for t in ins) else "an operand is larger than the result"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        result = problem.types[problem.outputs[0]]
        found = [_tactic(problem, LINEAR, "float32")]
        if not any(is_real(problem.types[i].dtype) for i in (*problem.activations, *problem.outputs)):
            return found
        images = _is_image(result) and all(_fits(problem, i) for i in problem.activations)
        for n in narrow:
            found += [_tactic(problem, f, n.dtype) for f in ((n.rows, n.channels_8) if images else (n.rows,))]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sizes = [problem.types[i].nbytes for i in (*problem.activations, *problem.outputs)]
        return 2e-6 + sum(size for size in sizes if isinstance(size, int)) / 4e12

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return [array for number, array in zip(code.problem.constants, weights.constants, strict=True)
                if number in packed_constants(code.problem)]  # fmt: skip

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        result = problem.types[problem.outputs[0]].stored_as(tactic.output_format(0))
        operands: list[Access] = []
        for k, number in enumerate(problem.activations):
            type = problem.types[number].stored_as(tactic.input_format(k))
            operands.append(access(f"x{number}", type, result, pitched=k in tactic.reads_strided))
        operands += [access(f"x{n}", problem.types[n], result) for n in packed_constants(problem)]
        pitched = bool(tactic.writes_strided)
        quick = QUICK if tactic.precision in ROUNDING else {}
        writer = Writer(Map(result, operands, lambda names: chain(problem, names, instead=quick), pitched))
        pitches = ([0] if pitched else []) + [1 + k for k in tactic.reads_strided]
        info = {"grid": grid(writer.threads, BLOCK), "block": (BLOCK,), "pitches": pitches}
        return function((writer,), operands), info


def packed_constants(problem: Problem) -> list[int]:
    """Constants that are read from memory."""
    return [i for i in problem.constants if problem.inputs[i].value is None or problem.types[i].size != 1]


def chain(
    problem: Problem, names: dict[str, str], skip: frozenset[int] = frozenset(), instead: Mapping[str, str] = {}
) -> tuple[list[str], str]:
    """The layers in order, on one element.

    names: C names of the operands x0, x1, ...; skip: constants read elsewhere; instead: templates for activations
    of a value, alpha and beta.
    """
    values = {int(name[1:]): text for name, text in names.items()}
    for number in problem.constants:
        if number not in values and number not in skip:
            given = problem.inputs[number].value
            assert given is not None
            values[number] = constant(problem.types[number].dtype, given[0])
    lines = []
    for layer in problem.layers:
        output = layer.outputs[0]
        own = instead.get(layer.attrs.function) if layer.kind == "Activation" else None
        value = own.format(values[layer.inputs[0]], *parameters(layer)) if own else expression(problem, layer, values)
        lines.append(f"{value_type(problem.types[output].dtype)} y{output} = {value};")
        values[output] = f"y{output}"
    return lines, values[problem.outputs[0]]


def _fits(problem: Problem, number: int) -> bool:
    """Whether an operand can be read along with a result whose channels are innermost: an image, or one element."""
    type = problem.types[number]
    return _is_image(type) or type.size == 1


def _is_image(type: TensorType) -> bool:
    return type.rank == 4 and (is_real(type.dtype) or type.dtype in BYTES)


def _tactic(problem: Problem, wanted: Format, precision: str) -> Tactic:
    result = problem.types[problem.outputs[0]]
    inputs = tuple(formats_for(problem.types[i], wanted) for i in problem.activations)
    output = formats_for(result, wanted)
    assert all(known(f) for f in (*inputs, output))
    same = tuple(
        (0, k) for k, i in enumerate(problem.activations) if problem.types[i] == result and inputs[k] == output
    )
    images = bool(wanted.blocks)
    whole = [problem.types[i].shape == result.shape for i in problem.activations]
    reads = tuple(k for k, format in enumerate(inputs) if images and format.blocks and whole[k])
    return Tactic(str(wanted), inputs, (output,), precision, inplace=same, reads_strided=reads,
                  writes_strided=(0,) if images and output.blocks else ())  # fmt: skip
