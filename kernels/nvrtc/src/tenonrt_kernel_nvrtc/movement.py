"""Layers that move data and change nothing: transposes, slices, padding, joins, splits, and changes of format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from tenonrt.contracts import (
    LINEAR,
    Array,
    Code,
    Format,
    Problem,
    Tactic,
    TensorType,
    Weights,
    normalize_axis,
)

from tenonrt_kernel_nvrtc.expressions import constant
from tenonrt_kernel_nvrtc.kernel import CudaKernel, grid
from tenonrt_kernel_nvrtc.maps import BLOCK, Access, Map, Writer, function
from tenonrt_kernel_nvrtc.storage import BFLOAT16, FLOAT16, Axes, Narrow, formats_for, is_real, known, stored

_MOST_PARTS = 16


class MovementKernel(CudaKernel):
    """Transpose, Slice, Padding by constants, Expand, Concatenation, Split and Reformat."""

    def refuses(self, problem: Problem) -> str:
        if len(problem.layers) != 1:
            return "more than one layer"
        if problem.layer.kind == "Reformat":
            attrs = problem.layer.attrs
            return "" if known(attrs.source) and known(attrs.target) else "a format with blocks inside or scales"
        why = _MOVES[problem.layer.kind][0](problem)
        return why or ("nothing is computed" if not problem.activations else "")

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        if problem.layer.kind == "Reformat":
            attrs = problem.layer.attrs
            types = (attrs.source.dtype, attrs.target.dtype)
            least = next((n.dtype for n in (BFLOAT16, FLOAT16) if n.dtype in types), "float32")
            slices = tuple(range(attrs.source.blocks != ())), tuple(range(attrs.target.blocks != ()))
            return (
                Tactic(
                    "copy", (attrs.source,), (attrs.target,), least, reads_strided=slices[0], writes_strided=slices[1]
                ),
            )
        result = problem.types[problem.outputs[0]]
        found = [_tactic(problem, LINEAR, "float32")]
        images = result.rank == 4 and all(problem.types[i].rank == 4 for i in problem.activations)
        for n in narrow if is_real(result.dtype) else ():
            found += [
                _tactic(problem, f, n.dtype, strided=_along_channels(problem))
                for f in ((n.rows, n.channels_8) if images else (n.rows,))
            ]
        return found

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        sizes = [problem.types[i].nbytes for i in (*problem.activations, *problem.outputs)]
        return 2e-6 + sum(size for size in sizes if isinstance(size, int)) / 3e12

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Constants that are pieces of a concatenation."""
        pieces = [i for i in code.problem.layer.inputs if i in code.problem.constants]
        if code.problem.layer.kind != "Concatenation":
            return ()
        return [weights.constants[code.problem.constants.index(i)] for i in dict.fromkeys(pieces)]

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        types = {i: problem.types[i].stored_as(tactic.input_format(k)) for k, i in enumerate(problem.activations)}
        pitched = {problem.activations[k] for k in tactic.reads_strided}
        names = ["out"] if len(problem.outputs) == 1 else [f"out{k}" for k in range(len(problem.outputs))]
        writers, pointers = list[Writer](), dict[str, Access]()
        for k, (number, name) in enumerate(zip(problem.outputs, names, strict=True)):
            result = problem.types[number].stored_as(tactic.output_format(k))
            operands = _MOVES[problem.layer.kind][1](problem, types, pitched, k)
            compute = partial(_choose, operands)
            writers.append(Writer(Map(result, operands, compute, k in tactic.writes_strided, name)))
            pointers |= {operand.name: operand for operand in operands}
        written = list(tactic.writes_strided)
        threads = max(writer.threads for writer in writers)
        return function(writers, list(pointers.values())), {
            "grid": (*grid(threads, BLOCK), len(writers)), "block": (BLOCK,),
            "pitches": written + [len(writers) + k for k in tactic.reads_strided],
        }  # fmt: skip


def _tactic(problem: Problem, wanted: Format, precision: str, strided: bool = False) -> Tactic:
    """strided: whether what is read and written may be slices, where it has blocks."""
    inputs = tuple(formats_for(problem.types[i], wanted) for i in problem.activations)
    outputs = tuple(formats_for(problem.types[i], wanted) for i in problem.outputs)
    reads = tuple(k for k, format in enumerate(inputs) if strided and format.blocks)
    writes = tuple(k for k, format in enumerate(outputs) if strided and format.blocks)
    return Tactic(str(wanted), inputs, outputs, precision, reads_strided=reads, writes_strided=writes)


def _along_channels(problem: Problem) -> bool:
    """Whether pixels stay pixels, of which parts are joined or cut."""
    kind, rank = problem.layer.kind, problem.types[problem.outputs[0]].rank
    return kind in ("Concatenation", "Split") and normalize_axis(problem.layer.attrs.axis, rank) == 1


def _choose(operands: Sequence[Access], names: dict[str, str]) -> tuple[list[str], str]:
    """The operand that is there: all others are zero there, or there is one only."""
    values = [names[operand.name] for operand in operands]
    return [], values[0] if len(values) == 1 else f"({' + '.join(values)})"


def _own(number: int, type: TensorType, strides: Sequence[int], pitched: bool = False, **more: Any) -> Access:
    width = Axes.of(type).sizes[-1] if type.rank else 1
    pixel = tuple(0 if axis == 1 else stride // width for axis, stride in enumerate(strides)) if pitched else ()
    return Access(f"x{number}", stored(type), tuple(strides), pitched=pitched, pixel=pixel, **more)


# what each kind reads -----------------------------------------------------------------------------------------------

_Types = dict[int, TensorType]


def _integers(problem: Problem, position: int) -> list[int] | None:
    """A constant input of a layer as numbers; None where it is absent or computed."""
    inputs = problem.layer.inputs
    if position >= len(inputs) or inputs[position] < 0:
        return None
    value = problem.inputs[inputs[position]].value
    return None if value is None else [int(v) for v in value]


def _any(problem: Problem) -> str:
    return ""


def _same(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    ((number, type),) = types.items()
    return [_own(number, type, Axes.of(type).strides, number in pitched)]


def _transposed(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    ((number, type),) = types.items()
    permutation = [axis % type.rank for axis in problem.layer.attrs.permutation or reversed(range(type.rank))]
    strides = Axes.of(type).strides
    return [_own(number, type, [strides[axis] for axis in permutation])]


def _expanded(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    ((number, type),) = types.items()
    own, shape = Axes.of(type).strides, type.concrete({})
    missing = problem.types[problem.outputs[0]].rank - type.rank
    return [_own(number, type, [0] * missing + [0 if n == 1 else s for n, s in zip(shape, own, strict=True)])]


def _slice_of(problem: Problem) -> tuple[list[int], list[int]] | str:
    """Where a slice starts along each axis, and its steps."""
    shape = problem.types[problem.layer.inputs[0]].concrete({})
    starts, ends, axes, steps = (_integers(problem, i) for i in (1, 2, 3, 4))
    if starts is None or ends is None:
        return "where it starts is not known"
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    first, step = [0] * len(shape), [1] * len(shape)
    for begin, axis, by in zip(starts, axes, steps, strict=True):
        size = shape[axis]
        low, high = (0, size) if by > 0 else (-1, size - 1)
        first[axis] = max(low, min(begin + size if begin < 0 else begin, high))
        step[axis] = by
    return first, step


def _refuses_slice(problem: Problem) -> str:
    if len(problem.layer.inputs) < 3:
        return "a slice in another form"
    found = _slice_of(problem)
    return found if isinstance(found, str) else ""


def _sliced(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    ((number, type),) = types.items()
    found = _slice_of(problem)
    assert not isinstance(found, str)
    own = Axes.of(type).strides
    offset = sum(start * stride for start, stride in zip(found[0], own, strict=True))
    return [_own(number, type, [s * step for s, step in zip(own, found[1], strict=True)], offset=offset)]


def _refuses_padding(problem: Problem) -> str:
    if problem.layer.attrs.mode != "constant" or _integers(problem, 1) is None:
        return "padding that is not by constants"
    value = problem.layer.inputs[2] if len(problem.layer.inputs) > 2 else -1
    if value >= 0 and problem.inputs[value].value is None:
        return "the value is computed"
    axes = problem.layer.inputs[3] if len(problem.layer.inputs) > 3 else -1
    return "the axes are computed" if axes >= 0 and _integers(problem, 3) is None else ""


def _padded(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    number = problem.layer.inputs[0]
    type = types[number]
    pads, rank, shape, own = _integers(problem, 1), type.rank, type.concrete({}), Axes.of(type).strides
    assert pads is not None
    axes = _integers(problem, 3) or list(range(rank))
    before = [0] * rank
    for position, axis in enumerate(axes):
        before[axis % rank] = pads[position]
    result = problem.types[problem.outputs[0]].concrete({})
    there = tuple(
        (axis, max(0, before[axis]), before[axis] + shape[axis])
        for axis in range(rank)
        if before[axis] > 0 or before[axis] + shape[axis] < result[axis]
    )
    value = problem.layer.inputs[2] if len(problem.layer.inputs) > 2 else -1
    given = problem.inputs[value].value if value >= 0 else None
    outside = constant(type.dtype, given[0]) if given else "0"
    offset = -sum(b * s for b, s in zip(before, own, strict=True))
    return [_own(number, type, own, offset=offset, there=there, outside=outside)]


def _refuses_concatenation(problem: Problem) -> str:
    if len(set(problem.layer.inputs)) < len(problem.layer.inputs):
        return "an input that comes twice"
    if len(problem.layer.inputs) > _MOST_PARTS:
        return f"more than {_MOST_PARTS} inputs"
    return "" if problem.types[problem.outputs[0]].dtype != "bool" else "truth values"


def _concatenated(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    result = problem.types[problem.outputs[0]]
    axis = normalize_axis(problem.layer.attrs.axis, result.rank)
    found, start = [], 0
    for number in problem.layer.inputs:
        type = types.get(number, problem.types[number])
        own, size = Axes.of(type).strides, type.concrete({})[axis]
        there = ((axis, start, start + size),)
        found.append(_own(number, type, own, number in pitched, offset=-start * own[axis], there=there))
        start += size
    order = [*problem.activations, *(n for n in problem.layer.inputs if n in problem.constants)]
    return sorted(found, key=lambda a: order.index(int(a.name[1:])))


def _refuses_split(problem: Problem) -> str:
    if not all(problem.types[i].size for i in problem.outputs):
        return "an empty part"
    return "" if len(problem.outputs) <= _MOST_PARTS else f"more than {_MOST_PARTS} parts"


def _split(problem: Problem, types: _Types, pitched: set[int], part: int) -> list[Access]:
    ((number, type),) = types.items()
    axis, own = normalize_axis(problem.layer.attrs.axis, type.rank), Axes.of(type).strides
    parts = [problem.types[i].concrete({})[axis] for i in problem.layer.outputs]
    start = sum(parts[: problem.layer.outputs.index(problem.outputs[part])])
    return [_own(number, type, own, number in pitched, offset=start * own[axis])]


_MOVES: dict[str, tuple[Any, Any]] = {
    "Concatenation": (_refuses_concatenation, _concatenated),
    "Expand": (_any, _expanded),
    "Padding": (_refuses_padding, _padded),
    "Reformat": (_any, _same),
    "Slice": (_refuses_slice, _sliced),
    "Split": (_refuses_split, _split),
    "Transpose": (_any, _transposed),
}
