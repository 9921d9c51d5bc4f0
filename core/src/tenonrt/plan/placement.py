"""Addresses: in-place results share their input's bytes; tensors whose size is known get an offset in the arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec

from tenonrt.dims import Dim, bounds
from tenonrt.plan.memory import Layout, Lifetime, lower_bound, plan_memory
from tenonrt.plan.program import UNPLACED, Program, ProgramTensor
from tenonrt.types import MAX_BYTES

Size = Callable[[ProgramTensor], int | None]
Lives = dict[int, tuple[int, int]]


def place(program: Program, inplace: Mapping[int, Sequence[tuple[int, int]]], *, reuse: bool = True) -> Program:
    """Alias in-place results (per step, (output, input) tensors); give offsets when every size has an upper bound.

    reuse: whether tensors that are never alive together may share bytes; where sizes come with the run they always do.
    Tensors whose shape depends on data are left to the run, and so is everything when a symbol has no upper bound.
    """
    program = _alias_inplace(program, inplace)
    if any(upper_bytes(program.tensors[i]) is None for i in arena_roots(program)):
        return program
    offsets, layout = arena_layout(program, upper_bytes, reuse=reuse)
    tensors = [
        msgspec.structs.replace(t, offset=offsets[i]) if i in offsets else t for i, t in enumerate(program.tensors)
    ]
    return msgspec.structs.replace(program, tensors=tuple(tensors), arena=layout.nbytes, lower_bound=layout.lower_bound)


def arena_layout(program: Program, size: Size, *, reuse: bool = True) -> tuple[dict[int, int], Layout]:
    """Offsets by tensor for everything that belongs in the arena."""
    lives = lifetimes(program)
    used = [i for i in arena_roots(program) if i in lives]
    buffers = [Lifetime(size(program.tensors[i]) or 0, *lives[i]) for i in used]
    whole = [Lifetime(buffer.nbytes, 0, len(program.steps)) for buffer in buffers]
    layout = plan_memory(buffers if reuse else whole)
    return dict(zip(used, layout.offsets, strict=True)), replace(layout, lower_bound=lower_bound(buffers))


def with_inputs_apart(program: Program) -> Program:
    """The program with inputs outside of the arena, where no step writes: they keep their values from run to run.

    An in-place result takes the place that its input had, which lasts as long as the result is needed.
    """
    tensors = list(program.tensors)
    apart = {i for i in program.inputs if tensors[i].base == UNPLACED and tensors[i].weight == UNPLACED}
    for index in (index for step in program.steps for index in step.outputs):
        root = root_of(tensors, index)
        if root in apart:  # later results in the same place are views of this one
            tensors[index] = msgspec.structs.replace(tensors[index], base=UNPLACED, offset=program.tensors[root].offset)
    for index in apart:
        tensors[index] = msgspec.structs.replace(tensors[index], offset=UNPLACED)
    return msgspec.structs.replace(program, tensors=tuple(tensors))


def arena_roots(program: Program) -> list[int]:
    """Tensors with bytes of their own in the arena: no views, no constants, no objects, no data-dependent shapes."""
    known = input_symbols(program)
    return [
        i
        for i, t in enumerate(program.tensors)
        if t.base == UNPLACED and t.weight == UNPLACED and not t.type.numpy.hasobject and t.type.symbol_names() <= known
    ]


def input_symbols(program: Program) -> set[str]:
    """Symbols whose values the shapes of the inputs tell."""
    return {name for i in program.inputs for name in program.tensors[i].type.symbol_names()}


def upper_bytes(tensor: ProgramTensor) -> int | None:
    """The most bytes a tensor can take, None when its symbols are not bounded or allow more than any machine has."""
    nbytes = tensor.type.nbytes
    upper = bounds(nbytes)[1] if isinstance(nbytes, Dim) else nbytes
    return None if upper is None or upper > MAX_BYTES else upper


def root_of(tensors: Sequence[ProgramTensor], index: int) -> int:
    """The tensor whose bytes a view shows."""
    while tensors[index].base != UNPLACED:
        index = tensors[index].base
    return index


def lifetimes(program: Program) -> Lives:
    """First and last step of every root that is touched; inputs live from the start, outputs to the end."""
    lives: Lives = {}

    def touch(index: int, step: int) -> None:
        root = root_of(program.tensors, index)
        first, last = lives.get(root, (step, step))
        lives[root] = (min(first, step), max(last, step))

    for index in program.inputs:
        touch(index, 0)
    for number, step in enumerate(program.steps):
        for index in (*step.inputs, *step.outputs):
            if index != UNPLACED:
                touch(index, number)
    for _, index in program.outputs:
        touch(index, len(program.steps))
    return lives


def _alias_inplace(program: Program, inplace: Mapping[int, Sequence[tuple[int, int]]]) -> Program:
    """An output takes over the bytes of an input that nobody reads afterwards."""
    tensors, lives = list(program.tensors), lifetimes(program)
    for number in sorted(inplace):
        taken: set[int] = set()
        for output, source in inplace[number]:
            root = root_of(tensors, source)
            # What the step reads in another arrangement of the same bytes, it would read after they were overwritten.
            alone = all(i in (UNPLACED, source) or root_of(tensors, i) != root for i in program.steps[number].inputs)
            last = lives[root][1] == number and root not in taken
            if last and alone and _may_overwrite(tensors, root, source, output):
                tensors[output] = msgspec.structs.replace(tensors[output], base=source)
                lives[root] = (lives[root][0], lives[output][1])
                taken.add(root)
    return msgspec.structs.replace(program, tensors=tuple(tensors))


def _may_overwrite(tensors: Sequence[ProgramTensor], root: int, source: int, output: int) -> bool:
    """Whole, dense, of the same size and place, and not a constant; an output that is itself a view keeps its place."""
    old, new, owner = tensors[source], tensors[output], tensors[root]
    same = old.type.nbytes == new.type.nbytes == owner.type.nbytes and old.place == new.place
    objects = old.type.numpy.hasobject or new.type.numpy.hasobject
    bytes_only = not objects or old.type.dtype == new.type.dtype
    return same and bytes_only and old.part is None and new.base == UNPLACED and owner.weight == UNPLACED
