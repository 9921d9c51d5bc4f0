"""Addresses are judged by running the program on tokens: what a step reads must still be what was written there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tenonrt.dims import symbol
from tenonrt.plan.placement import place, root_of
from tenonrt.plan.program import UNPLACED, KernelStep, Program, ProgramTensor
from tenonrt.types import TensorType

Inplace = dict[int, list[tuple[int, int]]]


def step(number: int, inputs: list[int], outputs: list[int]) -> KernelStep:
    return KernelStep(f"step{number}", (), (), "kernel", 0, (), tuple(inputs), tuple(outputs))


@st.composite
def programs(draw: st.DrawFn) -> tuple[Program, Inplace]:
    """Random steps over tensors of few sizes, with views of the whole and of halves, constants, dead outputs."""
    size = st.sampled_from([16, 32, 64])
    tensors = [ProgramTensor(f"in{i}", TensorType((draw(size),))) for i in range(draw(st.integers(1, 3)))]
    inputs = list(range(len(tensors)))
    tensors.append(ProgramTensor("constant", TensorType((32,)), weight=0))
    readable, steps, inplace = list(range(len(tensors))), [], {}
    for number in range(draw(st.integers(1, 9))):
        reads = draw(st.lists(st.sampled_from(readable), min_size=1, max_size=3))
        writes = []
        for _ in range(draw(st.integers(1, 2))):
            writes.append(len(tensors))
            tensors.append(ProgramTensor(f"t{len(tensors)}", TensorType((draw(size),))))
        steps.append(step(number, reads, writes))
        inplace[number] = [(o, i) for o in writes for i in reads if draw(st.booleans())]
        readable += writes
        for source in draw(st.lists(st.sampled_from(readable), max_size=2)):
            length = tensors[source].type.shape[0]
            assert isinstance(length, int)
            half = draw(st.booleans()) and tensors[source].part is None
            part = ((0, length // 2, 1),) if half else None
            shape = (length // 2,) if half else (length,)
            readable.append(len(tensors))
            tensors.append(ProgramTensor(f"view{len(tensors)}", TensorType(shape), base=source, part=part))
    outputs = draw(st.lists(st.sampled_from(readable), min_size=1, max_size=3, unique=True))
    named = tuple((f"out{i}", index) for i, index in enumerate(outputs))
    return Program(tuple(inputs), named, tuple(tensors), tuple(steps)), inplace


def interval(program: Program, index: int) -> range:
    """Bytes of the arena that a tensor shows; halves begin where their base begins."""
    root = program.tensors[root_of(program.tensors, index)]
    nbytes = program.tensors[index].type.nbytes
    assert isinstance(nbytes, int)
    return range(root.offset, root.offset + nbytes, 64)


def meaning(before: Program, index: int) -> tuple[int, int]:
    """(tensor written, bytes shown) of a tensor before anything was aliased."""
    nbytes = before.tensors[index].type.nbytes
    assert isinstance(nbytes, int)
    return root_of(before.tensors, index), nbytes


def simulate(before: Program, after: Program) -> None:
    """Each 64-byte line of the arena remembers which tensor was last written over it."""
    arena: dict[int, int] = {}

    def write(index: int) -> None:
        arena.update(dict.fromkeys(interval(after, index), index))

    def check(index: int) -> None:
        wanted, _ = meaning(before, index)
        if before.tensors[wanted].weight == UNPLACED:
            assert {arena[line] for line in interval(after, index)} == {wanted}

    for index in before.inputs:
        write(index)
    for now in after.steps:
        for index in now.inputs:
            check(index)
        for index in now.outputs:
            write(index)
        for index in now.outputs:  # two results of one step never share bytes
            check(index)
    for _, index in after.outputs:
        check(index)


@given(programs())
def test_nothing_that_is_read_later_is_overwritten(case: tuple[Program, Inplace]) -> None:
    before, inplace = case
    after = place(before, inplace)
    assert after.arena is not None
    assert after.lower_bound is not None
    assert after.lower_bound <= after.arena
    simulate(before, after)


@given(programs())
def test_without_aliases_the_arena_is_right_too(case: tuple[Program, Inplace]) -> None:
    before, _ = case
    simulate(before, place(before, {}))


@given(programs())
def test_an_output_shares_bytes_only_with_an_input_its_tactic_named(case: tuple[Program, Inplace]) -> None:
    """While a step runs, what it writes may lie over one of its inputs only where (output, input) was declared."""
    before, inplace = case
    after = place(before, inplace)
    for number, now in enumerate(after.steps):
        for output in now.outputs:
            for source in now.inputs:
                if before.tensors[root_of(before.tensors, source)].weight != UNPLACED:
                    continue
                shared = set(interval(after, output)) & set(interval(after, source))
                assert not shared or (output, source) in inplace[number]


def chain(*, length: int = 3, kept: bool = False) -> tuple[Program, Inplace]:
    tensors = tuple(ProgramTensor(f"t{i}", TensorType((256,))) for i in range(length + 1))
    steps = tuple(step(i, [i], [i + 1]) for i in range(length))
    outputs = (("y", length), ("x", 0)) if kept else (("y", length),)
    return Program((0,), outputs, tensors, steps), {i: [(i + 1, i)] for i in range(length)}


def test_a_chain_of_in_place_steps_uses_one_buffer() -> None:
    program, inplace = chain()
    assert place(program, inplace).arena == 1024
    assert place(program, {}).arena == 2048


def test_a_network_output_is_not_overwritten() -> None:
    program, inplace = chain(kept=True)
    placed = place(program, inplace)
    assert placed.tensors[1].base == UNPLACED
    assert placed.tensors[2].base == 1


def test_strings_and_numbers_never_share_bytes() -> None:
    tensors = (ProgramTensor("text", TensorType((4,), "string"), "host"), ProgramTensor("n", TensorType((4,), "int64")))
    program = Program((0,), (("n", 1),), tensors, (step(0, [0], [1]),))
    assert place(program, {0: [(1, 0)]}).tensors[1].base == UNPLACED


def test_unbounded_symbols_are_left_to_the_run_and_bounded_ones_take_their_upper_end() -> None:
    for upper, arena in ((None, None), (8, 2 * 512)):
        n = symbol("n", 1, upper)
        tensors = (ProgramTensor("x", TensorType((n, 16))), ProgramTensor("y", TensorType((n, 16))))
        assert place(Program((0,), (("y", 1),), tensors, (step(0, [0], [1]),)), {}).arena == arena


def test_data_dependent_shapes_have_no_address() -> None:
    found = symbol("found.0", 0, 10)
    tensors = (ProgramTensor("x", TensorType((16,))), ProgramTensor("y", TensorType((found,))))
    placed = place(Program((0,), (("y", 1),), tensors, (step(0, [0], [1]),)), {})
    assert placed.tensors[0].offset == 0
    assert placed.tensors[1].offset == UNPLACED


def test_two_results_of_a_step_do_not_take_over_the_same_input() -> None:
    """The first result is never read, so its life ends where it begins; its bytes are written all the same."""
    tensors = tuple(ProgramTensor(name, TensorType((256,))) for name in "xab")
    program = Program((0,), (("b", 2),), tensors, (step(0, [0], [1, 2]),))
    inplace = {0: [(1, 0), (2, 0)]}
    placed = place(program, inplace)
    assert [t.base for t in placed.tensors].count(0) == 1
    simulate(program, placed)


def test_a_result_does_not_take_over_an_input_that_the_step_also_reads_through_a_view() -> None:
    """Writing over x while a view of x is still being read is nothing that the tactic declared."""
    tensors = (
        ProgramTensor("x", TensorType((16, 16))),
        ProgramTensor("half", TensorType((8, 16)), base=0, part=((8, 16, 1), (0, 16, 1))),
        ProgramTensor("y", TensorType((16, 16))),
    )
    program = Program((0,), (("y", 2),), tensors, (step(0, [0, 1], [2]),))
    assert place(program, {0: [(2, 0)]}).tensors[2].base == UNPLACED


def test_a_result_does_not_cross_from_the_host_to_the_device() -> None:
    tensors = (ProgramTensor("x", TensorType((256,)), "host"), ProgramTensor("y", TensorType((256,))))
    program = Program((0,), (("y", 1),), tensors, (step(0, [0], [1]),))
    assert place(program, {0: [(1, 0)]}).tensors[1].base == UNPLACED
