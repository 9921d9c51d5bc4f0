"""Random inputs of a problem and its answer in float64: what every kernel is judged against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from tenonrt.builder.sizes import with_elements
from tenonrt.contracts import LayerType, Tolerance
from tenonrt.dims import evaluate
from tenonrt.problem import Problem, ProblemInput, ProblemLayer
from tenonrt.region_patterns import MOVES
from tenonrt.types import EXTENDED_TYPES, Array, TensorInfo, TensorType, is_float, numpy_dtype, rounded_as

LayerTypes = Callable[[str], LayerType]


def concretize(problem: Problem, values: Mapping[str, int]) -> Problem:
    """The same problem with its symbols replaced by numbers."""
    types = tuple(t.substitute(values) for t in problem.types)
    return msgspec.structs.replace(problem, types=types)


def trial_values(problem: Problem, wanted: int) -> dict[str, int]:
    """A small value for every symbol, within its range, with which every tensor has elements."""
    small = {s.name: max(s.lower, min(wanted, s.upper if s.upper is not None else wanted)) for s in problem.symbols}
    return with_elements(problem.types, small)


def draw_inputs(
    problem: Problem, layer_types: LayerTypes, seed: int, known: Mapping[int, Array] | None = None
) -> list[Array]:
    """One array per problem input (constants too), drawn by the layer that reads it first, where it is not known."""
    rng = np.random.default_rng(seed)
    arrays = dict(known or {})
    for number, given in enumerate(problem.inputs):
        if given.value is not None:
            arrays[number] = _known(problem.types[number], given.value)
    for layer in problem.layers:
        types = [problem.types[i] if i >= 0 else None for i in layer.inputs]
        drawn = layer_types(layer.kind).sample(layer.attrs, types, rng)
        for number, array in zip(layer.inputs, drawn, strict=True):
            if array is not None and number < len(problem.inputs):
                arrays.setdefault(number, array)
    return [arrays[i] for i in range(len(problem.inputs))]


def _known(type: TensorType, value: Sequence[Any]) -> Array:
    """A constant as an array."""
    return np.array(value, numpy_dtype(type.dtype)).reshape(type.concrete({}))


class TrialRun:
    """The `Run` of a trial: seeded, without subgraphs."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)

    def graph(self, index: int, arrays: Sequence[Array]) -> list[Array]:
        raise NotImplementedError("layers with subgraphs are run by the core, not by kernels")


def reference_outputs(problem: Problem, layer_types: LayerTypes, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a static problem in float64, by the references of its layers in order."""
    wide = [a.astype(np.float64) if is_float(problem.types[i].dtype) else a for i, a in enumerate(inputs)]
    tensors: dict[int, Array] = dict(enumerate(wide))
    for layer in problem.layers:
        results = layer_types(layer.kind).reference(
            layer.attrs, [tensors[i] if i >= 0 else None for i in layer.inputs], TrialRun()
        )
        tensors.update(zip(layer.outputs, results, strict=True))
    return [tensors[i] for i in problem.outputs]


# A problem whose tensors are larger than this in float64 is judged by a few items of its batch, which repeat.
_LARGE_BYTES = 1 << 26
DRAWN_ITEMS = 4


def with_own_constants(problem: Problem, inputs: Sequence[Array]) -> list[Array]:
    """The arrays with the constants that a problem knows, which may tell how large its batch is."""
    return [
        array if given.value is None else _known(problem.types[i], given.value)
        for i, (given, array) in enumerate(zip(problem.inputs, inputs, strict=True))
    ]


def few_items(problem: Problem, layer_types: LayerTypes) -> Problem | None:
    """A large problem with `DRAWN_ITEMS` items, where only sizes along a first axis that all results share change.

    What is read has this axis too, or one item for all of them, as a mask that is added to all sequences does.
    That results do not depend on other items is for whoever computes references to check (`items_apart`).
    """
    if 8 * sum(int(np.prod(t.concrete({}))) for t in problem.types) <= _LARGE_BYTES:
        return None
    return separated(problem, layer_types)


def separated(problem: Problem, layer_types: LayerTypes) -> Problem | None:
    """The problem with `DRAWN_ITEMS` items, None where the sizes of its tensors say that it has no items."""
    moving = (*problem.activations, *problem.outputs)
    if not all(problem.types[i].static and problem.types[i].rank for i in moving) or not problem.activations:
        return None
    sizes = {problem.types[i].shape[0] for i in problem.outputs}
    size = sizes.pop()
    if sizes or not isinstance(size, int) or size <= DRAWN_ITEMS:
        return None
    read = {problem.types[i].shape[0] for i in problem.activations}
    if not {size} <= read <= {size, 1}:
        return None
    return _resized(problem, size, DRAWN_ITEMS, layer_types)


def _resized(problem: Problem, size: int, items: int, layer_types: LayerTypes) -> Problem | None:
    """The problem with another number of items, None where it does not come out so.

    Constants may say how large the batch is, as those of reshapes do: then the first of their numbers changes with it.
    """
    scaled = tuple(_scaled(given, size, items) for given in problem.inputs)
    for inputs in dict.fromkeys((problem.inputs, scaled)):
        changed = _inferred(msgspec.structs.replace(problem, inputs=inputs), size, items, layer_types)
        if changed is not None:
            return changed
    return None


def _inferred(problem: Problem, size: int, items: int, layer_types: LayerTypes) -> Problem | None:
    """With so many items in what is read, and types that follow from it; None where results do not have as many."""
    moving = {i for i in (*problem.activations, *problem.outputs) if problem.types[i].shape[0] == size}
    types = [t.reshape((items, *t.shape[1:])) if i in moving else t for i, t in enumerate(problem.types)]
    infos = {i: TensorInfo(types[i], value=_small(problem, i)) for i in range(len(problem.inputs))}
    for layer in problem.layers:
        given = [infos[i] if i >= 0 else None for i in layer.inputs]
        try:
            infos.update(zip(layer.outputs, layer_types(layer.kind).infer(layer.attrs, given), strict=True))
        except ValueError:
            return None  # a constant says how large the batch is
    found = [infos[i].type if i >= len(problem.inputs) else types[i] for i in range(len(types))]
    same = all(found[i].shape == types[i].shape for i in problem.outputs)
    return msgspec.structs.replace(problem, types=tuple(found)) if same else None


def _scaled(given: ProblemInput, size: int, items: int) -> ProblemInput:
    """A constant of integers whose first is a multiple of the batch, for another batch."""
    value = given.value
    if not value or len(value) < 2 or not all(type(v) is int for v in value) or value[0] <= 0 or value[0] % size:
        return given
    return ProblemInput(given.role, (value[0] // size * items, *value[1:]))


def _small(problem: Problem, number: int) -> Array | None:
    value = problem.inputs[number].value
    return None if value is None else np.array(value, object).reshape(problem.types[number].concrete({}))


def items_apart(few: Problem, layer_types: LayerTypes, inputs: Sequence[Array], expected: Sequence[Array]) -> bool:
    """Whether items have the same references where others are left out."""
    some, two = [0, DRAWN_ITEMS - 1], _resized(few, DRAWN_ITEMS, 2, layer_types)
    if two is None:
        return False
    moving = {i for i in few.activations if few.types[i].shape[0] == DRAWN_ITEMS}
    fewer = [array[some] if i in moving else array for i, array in enumerate(inputs)]
    alone = reference_outputs(two, layer_types, with_own_constants(two, fewer))
    pairs = zip(alone, expected, strict=True)
    return all(a.shape[1:] == e.shape[1:] and np.allclose(a, e[some], 1e-9, 1e-12, equal_nan=True) for a, e in pairs)


@dataclass(frozen=True)
class Judgement:
    """How far an output is from the reference, and whether that is allowed."""

    ok: bool
    error: float  # max |y - ref| / max |ref|
    why: str = ""


# Deviations that are of no account: results below the smallest normal number may be zero (docs/decisions/0035).
_SUBNORMAL = {name: float(np.finfo(name).tiny) for name in ("float32", "float64")}
# What an algorithm of reduced accuracy may add to the error, in units of max |y|: docs/decisions/0015.
_INEXACT = {"float32": 1e-4}

# The most that is allowed, whatever the layers of a region add up to: past it, zeros would be right. Kernels round
# operands and results to these types and sum in single precision, so that errors do not grow with the length of sums,
# but they do with layers: of a value at all, of the largest for each layer, of the largest at all.
_NARROW, _MOST_RELATIVE, _MOST_A_LAYER, _MOST_ABSOLUTE = {"float16", "bfloat16"}, 2.0**-3, 2.0**-4, 2.0**-2


def problem_tolerance(problem: Problem, layer_types: LayerTypes, precision: str, exact: bool = True) -> Tolerance:
    """The layers' tolerances added up: errors accumulate through a region. exact: as the tactic says."""
    relative, absolute = 0.0, 0.0 if exact else _INEXACT.get(precision, 0.0)
    for layer in problem.layers:
        allowed = layer_types(layer.kind).tolerance(rounded_as(precision), _reduction(problem, layer, layer_types))
        relative, absolute = relative + allowed.relative, absolute + allowed.absolute
    if rounded_as(precision) not in _NARROW:
        return Tolerance(relative, absolute)
    most = min(_MOST_A_LAYER * len(problem.layers), _MOST_ABSOLUTE)
    return Tolerance(min(relative, _MOST_RELATIVE), min(absolute, most))


def _reduction(problem: Problem, layer: ProblemLayer, layer_types: LayerTypes) -> int:
    infos = [TensorInfo(problem.types[i]) if i >= 0 else None for i in layer.inputs]
    return evaluate(layer_types(layer.kind).reduction(layer.attrs, infos), {})


def rounding_steps(problem: Problem, number: int, layer_types: LayerTypes) -> int:
    """How far integers of a tensor may be from the reference: one where they are rounded real numbers, moved or not."""
    maker = next((layer for layer in problem.layers if number in layer.outputs), None)
    if maker is not None and maker.kind in MOVES:
        return rounding_steps(problem, maker.inputs[0], layer_types)
    return int(maker is not None and layer_types(maker.kind).rounds)


def judge(output: Array, expected: Array, tolerance: Tolerance, slack: float = 0.0, steps: int = 0) -> Judgement:
    """Compare an output with the float64 reference. slack: an absolute allowance (half a quantization step).

    steps: how far integers may be off.
    """
    if output.shape != expected.shape:
        return Judgement(False, np.inf, f"output shape {output.shape}, expected {expected.shape}")
    if output.size == 0:
        return Judgement(True, 0.0)
    if is_float(expected.dtype.name) and expected.dtype.name in EXTENDED_TYPES:
        spacing = steps * _spacing(expected)
        output, expected = output.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            return _judge_floats(output, expected, tolerance if steps else _EXACT, spacing)
    if expected.dtype.kind not in "fc":
        same = np.asarray(output == expected.astype(output.dtype))
        if steps and output.dtype.kind in "iu" and output.itemsize < 8:
            same = np.abs(output.astype(np.int64) - expected.astype(np.int64)) <= steps
        wrong = int((~same).sum())
        return Judgement(wrong == 0, float(wrong > 0), f"{wrong} of {output.size} values differ" if wrong else "")
    with np.errstate(invalid="ignore", over="ignore"):
        return _judge_floats(output, expected, tolerance, slack)


# What moves narrow floats changes nothing.
_EXACT = Tolerance(0.0, 0.0)


def _spacing(values: Array) -> Array:
    """How far narrow floats (of 8 bits, or bfloat16) are from their next larger neighbours."""
    import ml_dtypes

    find: Any = ml_dtypes.finfo
    kind = find(values.dtype)
    with np.errstate(invalid="ignore"):
        size = np.nan_to_num(np.abs(values.astype(np.float64)), nan=0.0, posinf=0.0)
    exponents = np.frexp(np.maximum(size, float(kind.smallest_normal)))[1]  # of the power of two above
    return np.asarray(np.ldexp(float(kind.eps), exponents - 1))


# Values that are compared at once: what is made of them on the way stays in a core's cache.
_BLOCK = 1 << 15


def _judge_floats(output: Array, expected: Array, tolerance: Tolerance, slack: float | Array) -> Judgement:
    """slack: for all values, or of each."""
    starts, given, wanted = range(0, output.size, _BLOCK), output.reshape(-1), expected.reshape(-1)
    slacks = np.broadcast_to(slack, expected.shape).reshape(-1)
    reachable = [_reachable(wanted[i : i + _BLOCK], output.dtype) for i in starts]
    size = max(largest for _, largest in reachable)
    least = _SUBNORMAL.get(output.dtype.name, _SUBNORMAL["float32"])
    anywhere = max(tolerance.absolute * size + float(np.min(slack)), least)
    special, bad, worst = 0, 0, 0.0
    for i, (held, _) in zip(starts, reachable, strict=True):
        found, right, own = given[i : i + _BLOCK].astype(expected.dtype), held, slacks[i : i + _BLOCK]
        finite = np.isfinite(held)
        if not finite.all():
            special += int((~finite & ~((found == held) | (np.isnan(found) & np.isnan(held)))).sum())
            found, right, own = found[finite], held[finite], own[finite]
        deviation = np.abs(found - right)
        largest = float(deviation.max(initial=0.0))
        worst = float(np.maximum(worst, largest))  # NaN stays
        if not largest <= anywhere:
            allowed = tolerance.relative * np.abs(right) + tolerance.absolute * size + own
            bad += int((~(deviation <= np.maximum(allowed, least))).sum())
    if special:
        return Judgement(False, np.inf, f"{special} NaN or infinite values differ")
    error = 0.0 if worst <= least else worst / max(size, 1e-300)
    why = f"{bad} of {output.size} values are off by up to {error:.2g} of max |y|" if bad else ""
    return Judgement(bad == 0, error, why)


def _reachable(expected: Array, dtype: np.dtype[Any]) -> tuple[Array, float]:
    """The reference as an output of this type can hold it, and its largest finite magnitude.

    What is past the largest number of the type must be infinite there.
    """
    largest = np.abs(expected).max()
    if np.isfinite(largest) and np.isfinite(largest.astype(dtype)):
        return expected, float(largest)
    stored = expected.astype(dtype).astype(expected.dtype)
    held = np.where(np.isinf(stored), stored, expected)
    return held, float(np.abs(held[np.isfinite(held)]).max(initial=0.0))
