"""The layers that only move elements, as strided copies in one phase, whatever the element type."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import (
    LINEAR,
    NCHW16C,
    Array,
    Code,
    Format,
    Problem,
    Support,
    Tactic,
    Weights,
    to_storage,
)

from tenonrt_kernel_llvm.copying import copy_phase, lead_of
from tenonrt_kernel_llvm.indexing import known
from tenonrt_kernel_llvm.kernel import LlvmKernel, runtime_symbols
from tenonrt_kernel_llvm.moves import Move, NotMovableError, SizesUnknownError, data_inputs, in_blocks, moves_of
from tenonrt_kernel_llvm.routine import Operand, Routine, dense_strides
from tenonrt_kernel_llvm.target import Target

_MOST = 64  # moves in one function


class CopyKernel(LlvmKernel):
    """Elements of 1, 2, 4 or 8 bytes, LINEAR; float32 images in blocks of 16 channels where no block is cut."""

    def supports(self, problem: Problem) -> Support:
        try:
            moves = moves_of(problem)
        except SizesUnknownError:
            moves = []
        except NotMovableError as reason:
            return Support(False, str(reason))
        why = _refusal(problem, moves)
        if why:
            return Support(False, why)
        known = bool(moves) and lead_of(moves) is not None
        return Support(True, runtime_symbols=runtime_symbols(problem) if known else ())

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        found = [_tactic(problem, LINEAR)]
        if blocked_moves(problem) is not None:
            found.append(_tactic(problem, NCHW16C))
        return found

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Constants among the moved tensors, as the results are stored."""
        problem, format = code.problem, code.tactic.output_format(0)
        arrays = dict(zip(problem.constants, weights.constants, strict=True))
        return [
            to_storage(arrays[number], problem.types[number].stored_as(format)) for number in constant_data(problem)
        ]

    def generate(self, problem: Problem, tactic: Tactic, target: Target) -> Code:
        routine = Routine(problem, tactic, target, packed=len(constant_data(problem)))
        moves = blocked_moves(problem) if tactic.output_format(0).blocks else moves_of(problem)
        assert moves is not None
        copy_phase(routine, moves, operands(routine, tactic.output_format(0)))
        return routine.code()


def constant_data(problem: Problem) -> list[int]:
    """Moved tensors that are constants of the network."""
    return [number for number in data_inputs(problem) if number in problem.constants]


def operands(routine: Routine, format: Format) -> Callable[[int], Operand]:
    """Where the tensors of a problem lie."""
    problem = routine.problem
    found = dict(zip(problem.outputs, routine.outputs, strict=True))
    found.update(zip(problem.activations, routine.inputs, strict=True))
    for number, pointer in zip(constant_data(problem), routine.packed, strict=False):
        type = problem.types[number].stored_as(format)
        shape = [known(d) for d in type.physical_shape]
        found[number] = Operand(type, pointer, tuple(shape), dense_strides(shape, type.numpy.itemsize))
    return found.__getitem__


def blocked_moves(problem: Problem) -> list[Move] | None:
    """The moves in blocks of 16 channels; None where the tensors are no images or a block would be cut."""
    tensors = [problem.types[number] for number in (*data_inputs(problem), *problem.outputs)]
    if any(type.rank != 4 or type.dtype != "float32" for type in tensors):
        return None
    try:
        found = [in_blocks(move, problem) for move in moves_of(problem)]
    except NotMovableError:
        return None
    moves = [move for move in found if move is not None]
    return moves if len(moves) == len(found) else None


def _refusal(problem: Problem, moves: Sequence[Move]) -> str:
    if len(moves) > _MOST:
        return f"at most {_MOST} moves, not {len(moves)}"
    if any(problem.inputs[number].role == "host" for number in problem.activations):
        return "an input is on the host"
    moved = [problem.types[number] for number in (*data_inputs(problem), *problem.outputs)]
    wide = sorted({type.dtype for type in moved if type.dtype == "string" or type.numpy.itemsize not in (1, 2, 4, 8)})
    if wide:
        return f"elements of 1, 2, 4 or 8 bytes, not {', '.join(wide)}"
    extra = set(problem.activations) - set(data_inputs(problem))
    return "an input that is known only at run time" if extra else ""


def _tactic(problem: Problem, format: Format) -> Tactic:
    inputs, outputs = tuple(format for _ in problem.activations), tuple(format for _ in problem.outputs)
    strided = format.blocks != ()
    return Tactic(
        str(format), inputs, outputs, reads_strided=tuple(range(len(inputs))) if strided else (),
        writes_strided=tuple(range(len(outputs))) if strided else (),
    )  # fmt: skip
