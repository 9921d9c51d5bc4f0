"""Binding a tactic to drawn arrays and judging its first run: canaries, untouched inputs, two samples, the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from math import prod
from operator import and_
from typing import Any, Literal

import numpy as np

from tenonrt.binding import bind_code
from tenonrt.builder.sampling import (
    Judgement,
    LayerTypes,
    concretize,
    draw_inputs,
    few_items,
    items_apart,
    judge,
    problem_tolerance,
    reference_outputs,
    rounding_steps,
    trial_values,
    with_own_constants,
)
from tenonrt.builder.sizes import with_elements
from tenonrt.contracts import AllocatesOutputs, Device, Kernel, Launch
from tenonrt.dims import evaluate
from tenonrt.layout import ALIGNMENT, aligned, from_storage, to_storage
from tenonrt.problem import Code, Problem, Support, Tactic, Weights
from tenonrt.types import EXTENDED_TYPES, Array, Format, TensorType, is_float

_GUARD = 256  # bytes before and after each output and the workspace
_CANARY = 0xA5
_FRESH = 0xFF  # all bits set is a NaN in every IEEE format
_FRESH_WORD = 0xFFFF_FFFF_FFFF_FFFF

# How a program may place operands where the tactic allows it: an output on an input's bytes, or in slices of others.
Arrangement = Literal["apart", "inplace", "strided"]


def quant_scale(format: Format, values: Array) -> Array | None:
    """The scale a quantized format needs for these values; None for other formats."""
    if format.quant is None:
        return None
    axis = format.quant.axis
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    largest: Array = np.abs(values).max(axis=others) / 127.0
    return np.asarray(np.maximum(largest, 1e-8), np.float32)


# Where nobody looks at a result, tensors larger than this are filled on the device: the way from the host is long.
_FILLED_BYTES = 1 << 20
_PATTERN = 65521


def _pattern(type: TensorType) -> Array:
    """What a device's arrays of the type are filled with: normal values, or bytes of every value."""
    drawn = np.random.default_rng(0)
    if type.numpy.itemsize == 1 and type.numpy.kind in "iu":
        return drawn.integers(0, 256, _PATTERN, np.uint8).view(type.numpy)
    return drawn.standard_normal(_PATTERN).astype(type.numpy)


def _any_values_do(type: TensorType) -> bool:
    """Whether a kernel takes the same time for all values, and as it is stored each is one: no index, no truth."""
    return is_float(type.dtype) or type.dtype in ("int8", "uint8")


def _repeated(values: Array, shape: Sequence[int], device: Device) -> Any:
    """Values in a row, again and again, as an array of this shape where the device has its arrays."""
    if not device.races:
        return np.resize(values, tuple(shape))
    made = device.allocate(prod(shape) * values.dtype.itemsize).view(values.dtype)
    values, flat = _plain(np.ascontiguousarray(values)), _plain(made)
    filled = min(values.size, flat.size)
    device.upload(values.reshape(-1)[:filled], flat[:filled])
    while filled < flat.size:
        count = min(filled, flat.size - filled)
        flat[filled : filled + count] = flat[:count]
        filled += count
    return made.reshape(tuple(shape))


def _plain(array: Any) -> Any:
    """The array of any device, elements of extended types as unsigned integers, which every library copies."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.name in EXTENDED_TYPES else array


@dataclass(frozen=True)
class Sample:
    """A static problem with drawn inputs and the answer.

    few: of a large batch only these items are drawn, and repeat; the answer is that of the first and the last item.
    """

    problem: Problem
    inputs: list[Array]
    expected: list[Array]
    values: Mapping[str, int] = field(default_factory=dict)  # what the problem's symbols were
    few: Problem | None = None
    _stored: dict[tuple[Format, ...], Sample] = field(default_factory=dict)
    _on_device: dict[tuple[int, Format], Any] = field(default_factory=dict)

    @classmethod
    def draw(
        cls, problem: Problem, layer_types: LayerTypes, size: int, seed: int, *, weights_of: Sample | None = None
    ) -> Sample:
        """``size``: the value wanted for every symbol. ``weights_of``: a sample whose constants this one shares."""
        values = trial_values(problem, size)
        static = concretize(problem, values)
        known = {} if weights_of is None else {i: weights_of.inputs[i] for i in problem.constants}
        few = few_items(static, layer_types)
        if few is not None:
            inputs = draw_inputs(few, layer_types, seed, known)
            answers = reference_outputs(few, layer_types, inputs)
            known_apart = weights_of is not None and weights_of.few == few
            if known_apart or items_apart(few, layer_types, inputs, answers):
                sample = cls(static, with_own_constants(static, inputs), [], values, few)
                return replace(sample, expected=sample.of_items(answers))
        inputs = draw_inputs(static, layer_types, seed, known)
        return cls(static, inputs, reference_outputs(static, layer_types, inputs), values)

    @property
    def items(self) -> tuple[int, ...] | None:
        """The items that are judged, None: all."""
        if self.few is None:
            return None
        size = self.problem.types[self.problem.outputs[0]].concrete({})[0]
        return (0, size - 1)

    def of_items(self, answers: Sequence[Array]) -> list[Array]:
        """The part of the drawn items' answers that is compared."""
        return list(answers) if self.items is None else [a[[i % len(a) for i in self.items]] for a in answers]

    def stored(self, number: int, type: TensorType, scale: Array | None, device: Device) -> Any:
        """An input as it is stored, on the device where that has arrays of its own: kept, for there the way is long."""
        if not device.races:
            return self._stored_whole(number, type, scale, device)
        key = (number, type.format)
        if key not in self._on_device:
            unseen = not self.expected and _any_values_do(type)
            if unseen and self.inputs[number].nbytes > _FILLED_BYTES:
                shape = [evaluate(d, {}) for d in type.physical_shape]
                self._on_device[key] = _repeated(_pattern(type), shape, device)
            else:
                self._on_device[key] = self._stored_whole(number, type, scale, device)
        return self._on_device[key]

    def _stored_whole(self, number: int, type: TensorType, scale: Array | None, device: Device) -> Any:
        """With all items: stored ones repeat where the items are outermost, else logical ones do before."""
        values = self.inputs[number]
        repeats = self.few is not None and number in self.problem.activations
        outermost = type.format.order[:1] in ((), (0,)) and all(axis for axis, _ in type.format.blocks)
        if repeats and not outermost:
            values = np.resize(values, type.concrete({}))
        stored = to_storage(values, type, scale)
        shape = [evaluate(d, {}) for d in type.physical_shape] if repeats else stored.shape
        if not device.races and stored.shape == tuple(shape):
            return stored
        return _repeated(stored, shape, device)

    def as_stored(self, tactic: Tactic, layer_types: LayerTypes) -> Sample:
        """The sample a tactic really computes: inputs rounded to what its formats can store, and their answer.

        A kernel that reads int8 is judged by what it makes of int8 values, not by the rounding that came before it.
        """
        formats = tuple(tactic.input_format(k) for k in range(len(self.problem.activations)))
        if formats not in self._stored:
            self._stored[formats] = self._rounded(formats, layer_types)
        return self._stored[formats]

    def _rounded(self, formats: Sequence[Format], layer_types: LayerTypes) -> Sample:
        drawn, inputs = self.few or self.problem, list(self.inputs)
        for format, i in zip(formats, drawn.activations, strict=True):
            if format.quant is not None or format.dtype is not None:
                type, scale = drawn.types[i].stored_as(format), quant_scale(format, inputs[i])
                inputs[i] = from_storage(to_storage(inputs[i], type, scale), type, scale)
        if all(new is old for new, old in zip(inputs, self.inputs, strict=True)):
            return self
        given = inputs if self.few is None else with_own_constants(self.few, inputs)
        expected = self.of_items(reference_outputs(drawn, layer_types, given))
        return Sample(self.problem, inputs, expected, self.values, self.few)

    @classmethod
    def typical(cls, problem: Problem, layer_types: LayerTypes) -> Sample:
        """What a problem is timed at: every symbol as its profile says, else at its upper end, as TensorRT tunes.

        The answer is not needed and not computed. Of a large batch a few items are drawn, and repeat.
        """
        values = with_elements(problem.types, {s.name: s.tuned_at for s in problem.symbols})
        static = concretize(problem, values)
        few = few_items(static, layer_types)
        inputs = with_own_constants(static, draw_inputs(few or static, layer_types, 0))
        return cls(static, inputs, [], values, few)


def host_buffer(nbytes: int) -> Array:
    """Bytes of the host, aligned as a device's are."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


class Guarded:
    """A buffer of a device between two canaries, filled with a pattern that reads as NaN."""

    def __init__(self, nbytes: int, allocate: Callable[[int], Any] = host_buffer) -> None:
        whole = allocate(nbytes + 2 * _GUARD)
        self._around = (whole[:_GUARD], whole[_GUARD + nbytes :])
        for margin in self._around:
            margin[:] = _CANARY
        self.bytes = whole[_GUARD : _GUARD + nbytes]
        _words(self.bytes)[:] = _FRESH_WORD if nbytes % 8 == 0 else _FRESH

    def intact(self) -> list[Any]:
        """Truths where the device has them: nothing was written before or behind the buffer."""
        return [(margin == _CANARY).all() for margin in self._around]

    def array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
        return self.bytes.view(dtype).reshape(shape)


def _bytes_of(array: Any) -> Any:
    """The bytes of an array of any device, in a row."""
    dense = array if array.flags.c_contiguous else array.copy()
    return dense.reshape(-1).view(np.uint8)


def _words(data: Any) -> Any:
    """Bytes in a row as words of eight where they are so many: a GPU takes as long for a byte as for a word."""
    return data.view(np.uint64) if data.nbytes % 8 == 0 else data


def _same_bytes(some: Any, others: Any) -> Any:
    """A truth where the device has it."""
    return (_words(_bytes_of(some)) == _words(_bytes_of(others))).all()


def _all_true(truths: Iterable[Any]) -> bool:
    """Whether all hold, asked once: every answer from a GPU is a wait for all of its work, and for other processes'."""
    found = list(truths)
    return not found or bool(reduce(and_, found))


def _on_host(device: Device, array: Any) -> Array:
    """The array itself, or a copy where the device has arrays of its own."""
    if isinstance(array, np.ndarray):
        return array
    host = np.empty(array.shape, array.dtype)
    device.download(array, host)
    return host


@dataclass
class Bound:
    """A tactic bound to the arrays of one sample, ready to launch."""

    launch: Launch
    outputs: list[tuple[TensorType, Any, Array | None]]  # type, storage, scale
    guards: list[Guarded]
    margins: list[Any]
    device: Device

    def intact(self) -> bool:
        """Whether nothing was written beside the buffers, nor beside slices in larger ones."""
        margins = [(_bytes_of(margin) == _FRESH).all() for margin in self.margins]
        return _all_true([*margins, *(truth for guard in self.guards for truth in guard.intact())])

    def read(self, items: Sequence[int] | None = None) -> list[Array]:
        """The values of the outputs, of all items or of some along the first axis."""
        if items is None:
            return [from_storage(_on_host(self.device, array), type, scale) for type, array, scale in self.outputs]
        read = []
        for type, array, scale in self.outputs:
            few = np.concatenate([_on_host(self.device, array[i : i + 1]) for i in items])
            read.append(from_storage(few, type.reshape((len(items), *type.shape[1:])), scale))
        return read


@dataclass
class Packs:
    """Packed weights of one kernel: arranging them can take longer than a run, and trials run with the same again."""

    _made: list[tuple[tuple[Kernel, str], Weights, list[Array]]] = field(default_factory=list)

    def of(self, kernel: Kernel, code: Code, weights: Weights) -> list[Array]:
        """``Kernel.pack``, aligned; not called again for the same packing and arrays where there are no scales."""
        scaled = any(scale is not None for scale in (*weights.input_scales, *weights.output_scales))
        key = (kernel, kernel.packing(code.problem, code.tactic))
        for known, given, packed in self._made:
            if known == key and not scaled and _same(given.constants, weights.constants):
                return packed
        packed = [aligned(array) for array in kernel.pack(code, weights)]
        self._made.append((key, weights, packed))
        return packed


def _same(some: Sequence[Array], others: Sequence[Array]) -> bool:
    return all(a is b for a, b in zip(some, others, strict=True))


def compile_for(kernel: Kernel, problem: Problem, tactic: Tactic, support: Support, sample: Sample) -> Code:
    """Code for the problem that the kernel compiles where the sample is tried."""
    return kernel.compile(problem_to_compile(problem, support, sample), tactic)


def problem_to_compile(problem: Problem, support: Support, sample: Sample) -> Problem:
    """The symbolic problem where the kernel takes every symbol at run time, else that of the sample's sizes."""
    general = support.runtime_symbols == "all" or {s.name for s in problem.symbols} <= set(support.runtime_symbols)
    return problem if general else sample.problem


def bind_sample(
    kernel: Kernel,
    code: Code,
    sample: Sample,
    device: Device,
    arrangement: Arrangement = "apart",
    packs: Packs | None = None,
) -> Bound:
    """Pack the sample's constants, bind, and lay its arrays out in guarded buffers. ``packs``: those made before."""
    problem, tactic = sample.problem, code.tactic
    formats = [tactic.input_format(k) for k in range(len(problem.activations))]
    scales = [quant_scale(f, sample.inputs[i]) for f, i in zip(formats, problem.activations, strict=True)]
    out_formats = [tactic.output_format(k) for k in range(len(problem.outputs))]
    answers = sample.expected or [np.ones((), np.float64)] * len(out_formats)
    out_scales = [quant_scale(f, e) for f, e in zip(out_formats, answers, strict=True)]
    constants = tuple(sample.inputs[i] for i in problem.constants)
    weights = Weights(constants, tuple(scales), tuple(out_scales))
    packed = (Packs() if packs is None else packs).of(kernel, code, weights)
    on_device = kernel.on_device and code.native is None
    placed = [device.place(array) for array in packed] if on_device else packed
    executable = bind_code(code, placed, device, lambda: kernel)
    buffers = _Buffers(tactic, arrangement, device)
    for k, (format, scale, i) in enumerate(zip(formats, scales, problem.activations, strict=True)):
        type = problem.types[i].stored_as(format)
        buffers.add_input(k, type, sample.stored(i, type, scale, device))
    outputs = []
    for k, (number, format, scale) in enumerate(zip(problem.outputs, out_formats, out_scales, strict=True)):
        type = problem.types[number].stored_as(format)
        outputs.append((type, buffers.add_output(k, type), scale))
    workspace = buffers.guarded(evaluate(code.workspace_bytes, sample.values))
    values = tuple(sample.values[s.name] for s in code.problem.symbols)
    arrays = tuple(array for _, array, _ in outputs)
    launch = Launch(tactic.key, executable, tuple(buffers.inputs), arrays, workspace.bytes, values, on_device)
    return Bound(launch, outputs, buffers.guards, buffers.margins, device)


class _Buffers:
    """Guarded arrays of one launch, arranged as a program may arrange them."""

    def __init__(self, tactic: Tactic, arrangement: Arrangement, device: Device) -> None:
        self.guards: list[Guarded] = []
        self.margins: list[Any] = []  # what lies beside the slices
        self.inputs: list[Any] = []
        self._device = device
        self._inplace = dict(tactic.inplace) if arrangement == "inplace" else {}
        strided = arrangement == "strided"
        self._reads, self._writes = (tactic.reads_strided, tactic.writes_strided) if strided else ((), ())

    def add_input(self, index: int, type: TensorType, stored: Any) -> None:
        self.inputs.append(self._array(type, stored.shape, index in self._reads))
        _plain(self.inputs[-1])[...] = _plain(stored)

    def add_output(self, index: int, type: TensorType) -> Any:
        shape = [evaluate(d, {}) for d in type.physical_shape]
        source = self.inputs[self._inplace[index]] if index in self._inplace else None
        if source is not None and source.nbytes == evaluate(type.nbytes, {}):
            return source.reshape(-1).view(type.numpy).reshape(shape)
        return self._array(type, shape, index in self._writes)

    def guarded(self, nbytes: int) -> Guarded:
        self.guards.append(Guarded(nbytes, self._device.allocate))
        return self.guards[-1]

    def _array(self, type: TensorType, shape: Sequence[int], slice_of_larger: bool) -> Any:
        if not slice_of_larger or not shape:
            return self.guarded(prod(shape) * type.numpy.itemsize).array(shape, type.numpy)
        axis = sliceable(type.format, type.rank)[-1]  # the innermost of them leaves no two rows side by side
        wide = tuple(size + 2 if i == axis else size for i, size in enumerate(shape))
        whole = self.guarded(prod(wide) * type.numpy.itemsize).array(wide, type.numpy)
        before = (slice(None),) * axis
        self.margins += [whole[(*before, slice(None, 1))], whole[(*before, slice(-1, None))]]
        return whole[(*before, slice(1, -1))]


def sliceable(format: Format, rank: int) -> tuple[int, ...]:
    """The axes of a physical array along which a program may show a slice of a larger one, outermost first."""
    if not format.blocks:
        return tuple(range(rank))
    order = format.order or tuple(range(rank))
    return tuple(sorted({order.index(axis) for axis, _ in format.blocks}))


def try_tactic(
    kernel: Kernel,
    problem: Problem,
    tactic: Tactic,
    samples: Sequence[Sample],
    layer_types: LayerTypes,
    device: Device,
    packs: Packs | None = None,
) -> tuple[Judgement, Code]:
    """Run a tactic on every sample; the first thing wrong is the verdict. packs: of other trials of the problem."""
    support = kernel.supports(problem)
    code = compile_for(kernel, problem, tactic, support, samples[0])
    worst, packs = Judgement(True, 0.0), Packs() if packs is None else packs
    for sample in samples:
        fits = code.problem is problem or sample is samples[0]
        specific = code if fits else compile_for(kernel, problem, tactic, support, sample)
        stored = sample.as_stored(tactic, layer_types)
        verdict = _try_sample(kernel, specific, stored, layer_types, device, packs)
        if not verdict.ok:
            return verdict, code
        worst = max(worst, verdict, key=lambda v: v.error)
    for arrangement in _arrangements(tactic):
        stored = samples[0].as_stored(tactic, layer_types)
        verdict = _try_sample(kernel, code, stored, layer_types, device, packs, arrangement)
        if not verdict.ok:
            where = "in place" if arrangement == "inplace" else "on slices of larger buffers"
            return replace(verdict, why=f"{where}, as its tactic allows: {verdict.why}"), code
    return worst, code


def _arrangements(tactic: Tactic) -> Iterator[Arrangement]:
    if tactic.inplace:
        yield "inplace"
    if tactic.reads_strided or tactic.writes_strided:
        yield "strided"


def _try_sample(
    kernel: Kernel,
    code: Code,
    sample: Sample,
    layer_types: LayerTypes,
    device: Device,
    packs: Packs,
    arrangement: Arrangement = "apart",
) -> Judgement:
    bound = bind_sample(kernel, code, sample, device, arrangement, packs)
    before = [_plain(array).copy() for array in bound.launch.inputs]
    if isinstance(bound.launch.executable, AllocatesOutputs):
        outputs = _launch_allocating(bound)
    else:
        device.bind([bound.launch], sample.problem.threads).run(None)
        device.synchronize(None)
        outputs = bound.read(sample.items)
    if not bound.intact():
        return Judgement(False, np.inf, "it wrote outside its buffers")
    written = {pair[1] for pair in code.tactic.inplace}
    pairs = enumerate(zip(before, bound.launch.inputs, strict=True))
    kept = {index: _same_bytes(old, new) for index, (old, new) in pairs if index not in written}
    if not _all_true(kept.values()):
        changed = next(index for index, truth in kept.items() if not bool(truth))
        return Judgement(False, np.inf, f"it changed its input {changed}")
    tolerance = problem_tolerance(sample.problem, layer_types, code.tactic.precision, code.tactic.exact)
    worst = Judgement(True, 0.0)
    for k, (output, expected, (_, _, scale)) in enumerate(zip(outputs, sample.expected, bound.outputs, strict=True)):
        steps = rounding_steps(sample.problem, sample.problem.outputs[k], layer_types)
        verdict = judge(output, expected, tolerance, 0.0 if scale is None else float(np.max(scale)), steps)
        if not verdict.ok:
            return verdict
        worst = max(worst, verdict, key=lambda v: v.error)
    return worst


def _launch_allocating(bound: Bound) -> list[Array]:
    made: dict[int, Array] = {}

    def allocate(index: int, shape: Sequence[int]) -> Array:
        made[index] = np.full(tuple(shape), 0, bound.outputs[index][0].numpy)
        return made[index]

    executable = bound.launch.executable
    assert isinstance(executable, AllocatesOutputs)
    executable.launch_allocating([_on_host(bound.device, a) for a in bound.launch.inputs], allocate, None)
    return [made[i] for i in range(len(bound.outputs))]
