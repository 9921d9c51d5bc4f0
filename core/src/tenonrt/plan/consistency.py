"""Every number a loaded program holds must point at something, fit where it points, and mean what its code expects.

Hashes catch accidents; these checks catch a plan that was written wrong, before any of its addresses is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tenonrt.dims import Dim, Dimension, Symbol, bounds, substitute, symbols
from tenonrt.errors import PlanCorruptError
from tenonrt.layout import ALIGNMENT
from tenonrt.plan.program import UNPLACED, ControlStep, KernelStep, Program, ProgramTensor
from tenonrt.problem import Code, NativeCode
from tenonrt.types import Array, TensorType, dtype_name, numpy_dtype

# No machine that runs these plans has as much memory; a larger number is not a workspace.
_MAX_WORKSPACE = 1 << 38

Refuse = Callable[[str], PlanCorruptError]


def check_program(path: Path, program: Program, codes: Sequence[Code], weights: Sequence[Array]) -> None:
    """`PlanCorruptError` names the tensor or step that does not fit."""

    def refuse(what: str) -> PlanCorruptError:
        return PlanCorruptError(f"{path}: section 'program' is not consistent: {what}; build the plan again")

    for number, tensor in enumerate(program.tensors):
        check_type(f"tensor {number}", tensor.type, refuse)
    _check_links(program, weights, refuse)
    _check_arena(program, refuse)
    _check_ends(program, refuse)
    for step in program.steps:
        _check_indices(step, len(program.tensors), refuse)
        if isinstance(step, KernelStep):
            _check_kernel_step(program, step, codes, len(weights), refuse)
        else:
            _check_control_step(step, refuse)
            for graph in step.graphs:
                check_program(path, graph, codes, weights)


def check_type(name: str, type: TensorType, refuse: Refuse) -> None:
    """A known element type, a format of the type's rank, and dimensions that can be."""
    try:
        numpy_dtype(type.dtype)
        if type.format.dtype is not None:
            numpy_dtype(type.format.dtype)
    except ValueError as error:
        raise refuse(f"{name} has an {error}") from error
    if not type.format.fits(type.rank):
        raise refuse(f"{name} of rank {type.rank} has the format {type.format}")
    for dimension in type.shape:
        low, _ = bounds(dimension)
        impossible = low is not None and low < 0 and not isinstance(dimension, Dim)
        if impossible or any(not _possible(found) for found in symbols(dimension)):
            raise refuse(f"{name} has the dimension {dimension}")


def _possible(found: Symbol) -> bool:
    upper = float("inf") if found.upper is None else found.upper
    return 0 <= found.lower <= upper and (found.typical is None or found.lower <= found.typical <= upper)


def _check_links(program: Program, weights: Sequence[Array], refuse: Refuse) -> None:
    """Views end at a tensor with bytes of its own and show only what is there; weights have their tensor's shape."""
    count = len(program.tensors)
    for number, tensor in enumerate(program.tensors):
        if not UNPLACED <= tensor.base < count:
            raise refuse(f"tensor {number} is a view of tensor {tensor.base} of {count}")
        if not UNPLACED <= tensor.weight < len(weights):
            raise refuse(f"tensor {number} is weight {tensor.weight} of {len(weights)}")
        if tensor.weight != UNPLACED:
            _check_weight(number, tensor, weights[tensor.weight], refuse)
        elif tensor.base != UNPLACED:
            _check_view(number, tensor, program.tensors[tensor.base], refuse)
    _check_chains(program, refuse)


def _check_weight(number: int, tensor: ProgramTensor, weight: Array, refuse: Refuse) -> None:
    if weight.shape != tensor.type.physical_shape or dtype_name(weight.dtype) != dtype_name(tensor.type.numpy):
        raise refuse(f"tensor {number} is {tensor.type}, its weight {dtype_name(weight.dtype)}{list(weight.shape)}")


def _check_view(number: int, tensor: ProgramTensor, base: ProgramTensor, refuse: Refuse) -> None:
    if tensor.part is None:
        if tensor.type.nbytes != base.type.nbytes:
            raise refuse(f"tensor {number} of {tensor.type} is a view of all of {base.type}")
        return
    shape, shown = base.type.physical_shape, tensor.type.physical_shape
    fits = len(tensor.part) == len(shape) == len(shown) and tensor.type.numpy == base.type.numpy
    fits = fits and tensor.type.format == base.type.format
    if not fits or not all(map(_shows, tensor.part, shape, shown)):
        raise refuse(f"tensor {number} of {tensor.type} is the part {tensor.part} of {base.type}")


def _shows(part: tuple[int, int, int], size: Dimension, shown: Dimension) -> bool:
    """Whether a part of an axis has the length it should; where sizes are symbols, the run compares them."""
    start, stop, step = part
    if step < 1 or not 0 <= start <= stop:
        return False
    if isinstance(size, Dim):
        return True
    return stop <= size and len(range(*part)) == shown


def _check_chains(program: Program, refuse: Refuse) -> None:
    rooted: set[int] = set()
    for number in range(len(program.tensors)):
        chain, index = [], number
        while index not in rooted and program.tensors[index].base != UNPLACED:
            chain.append(index)
            index = program.tensors[index].base
            if len(chain) > len(program.tensors):
                raise refuse(f"tensor {number} is a view of itself")
        rooted.update([*chain, index])


def _check_arena(program: Program, refuse: Refuse) -> None:
    """Every address lies in the arena, aligned; the arena is no larger than its tensors laid end to end."""
    if program.arena is None:
        return
    total = 0
    for number, tensor in enumerate(program.tensors):
        if tensor.offset == UNPLACED:
            continue
        nbytes = bounds(tensor.type.nbytes)[1]
        fits = nbytes is not None and tensor.offset >= 0 and tensor.offset + nbytes <= program.arena
        if nbytes is None or not fits or tensor.offset % ALIGNMENT:
            raise refuse(f"tensor {number} at byte {tensor.offset} lies outside the arena of {program.arena} bytes")
        total += -(-nbytes // ALIGNMENT) * ALIGNMENT
    if not 0 <= program.arena <= total:
        raise refuse(f"the arena has {program.arena} bytes, its tensors only {total}")


def _check_ends(program: Program, refuse: Refuse) -> None:
    count = len(program.tensors)
    if not all(0 <= i < count for i in (*program.inputs, *(i for _, i in program.outputs))):
        raise refuse("an input or output is no tensor")
    if len(set(program.inputs)) != len(program.inputs):
        raise refuse("two inputs are one tensor")


def _check_indices(step: KernelStep | ControlStep, count: int, refuse: Refuse) -> None:
    for index in (*step.inputs, *step.outputs):
        absent = index == UNPLACED and isinstance(step, ControlStep) and index not in step.outputs
        if not (0 <= index < count or absent):
            raise refuse(f"step {step.name!r} uses tensor {index} of {count}")


def _check_control_step(step: ControlStep, refuse: Refuse) -> None:
    if not 0 <= step.captured <= len(step.inputs):
        raise refuse(f"step {step.name!r} captures {step.captured} of {len(step.inputs)} inputs")


def _check_kernel_step(program: Program, step: KernelStep, codes: Sequence[Code], weights: int, refuse: Refuse) -> None:
    """The tensors a step is given are those that its code was compiled for."""
    if not 0 <= step.code < len(codes) or not all(0 <= w < weights for w in step.packed):
        raise refuse(f"step {step.name!r} uses code {step.code} of {len(codes)} and weights {step.packed} of {weights}")
    problem, tactic = codes[step.code].problem, codes[step.code].tactic
    if len(problem.symbols) != len(step.symbols):
        raise refuse(f"step {step.name!r} has {len(step.symbols)} symbols, its code {len(problem.symbols)}")
    known: dict[str, Dimension] = {
        s.name: s.renamed(name) for s, name in zip(problem.symbols, step.symbols, strict=True)
    }
    wanted = [problem.types[n].stored_as(tactic.input_format(i)) for i, n in enumerate(problem.activations)]
    wanted += [problem.types[n].stored_as(tactic.output_format(i)) for i, n in enumerate(problem.outputs)]
    given = (*step.inputs, *step.outputs)
    if len(wanted) != len(given) or len(problem.activations) != len(step.inputs):
        raise refuse(f"step {step.name!r} has {len(given)} tensors, its code {len(wanted)}")
    for index, type in zip(given, wanted, strict=True):
        found = program.tensors[index].type
        expected = type.reshape([substitute(d, known) for d in type.shape])
        if found != expected:
            raise refuse(f"step {step.name!r} has tensor {index} of {found}, its code takes {expected}")


def check_code(path: Path, number: int, code: Code) -> None:
    """A problem's numbers point at its own tensors, and a tactic has a format for each operand."""

    def refuse(what: str) -> PlanCorruptError:
        return PlanCorruptError(
            f"{path}: section 'code' is not consistent: code {number}: {what}; build the plan again"
        )

    problem, tactic = code.problem, code.tactic
    for index, type in enumerate(problem.types):
        check_type(f"tensor {index}", type, refuse)
    count, inputs = len(problem.types), len(problem.inputs)
    written = [i for layer in problem.layers for i in layer.outputs]
    if not problem.layers or written != list(range(inputs, count)) or not all(0 <= i < count for i in problem.outputs):
        raise refuse("its layers do not write its tensors in order")
    if any(not UNPLACED <= i < count for layer in problem.layers for i in layer.inputs):
        raise refuse("a layer reads what is no tensor")
    if not all(isinstance(layer.attrs, dict) for layer in problem.layers):
        raise refuse("a layer's attributes are no map")
    for formats, numbers in ((tactic.inputs, problem.activations), (tactic.outputs, problem.outputs)):
        if formats and len(formats) != len(numbers):
            raise refuse(f"its tactic has {len(formats)} formats for {len(numbers)} operands")
        if any(not f.fits(problem.types[i].rank) for f, i in zip(formats, numbers, strict=False)):
            raise refuse("its tactic has a format of another rank")
    _check_tactic(code, refuse)
    if code.native is not None:
        _check_native(code, code.native, refuse)


def _check_tactic(code: Code, refuse: Refuse) -> None:
    problem, tactic = code.problem, code.tactic
    least, most = bounds(tactic.workspace)
    if least is None or least < 0 or (most is not None and most > _MAX_WORKSPACE):
        raise refuse(f"its tactic wants a workspace of {tactic.workspace} bytes")
    if code.workspace is not None and not 0 <= code.workspace <= (_MAX_WORKSPACE if most is None else most):
        raise refuse(f"it wants a workspace of {code.workspace} bytes, its tactic one of {tactic.workspace}")
    for o, i in tactic.inplace:
        if not (0 <= o < len(problem.outputs) and 0 <= i < len(problem.activations)):
            raise refuse(f"its tactic shares output {o} with input {i}")


def _check_native(code: Code, native: NativeCode, refuse: Refuse) -> None:
    """Machine code begins within its bytes, and the sizes it asks for can be told from the problem's symbols."""
    if not 0 <= native.entry < len(code.blob):
        raise refuse(f"its function begins at byte {native.entry} of {len(code.blob)}")
    names = {found.name for found in code.problem.symbols}
    for phase in native.phases:
        least, _ = bounds(phase)
        if least is None or least < 0 or any(found.name not in names for found in symbols(phase)):
            raise refuse(f"it has {phase} units in a phase, over the symbols {sorted(names)}")
    operands = len(code.problem.outputs) + len(code.problem.activations)
    if not native.phases or not all(0 <= i < operands for i in native.strided):
        raise refuse(f"it has {len(native.phases)} phases and the strided operands {native.strided} of {operands}")
    if not 0 <= native.scratch <= _MAX_WORKSPACE:
        raise refuse(f"it wants {native.scratch} bytes of scratch")
