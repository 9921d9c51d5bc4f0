"""What is asked of a kernel in another process: the same tactics, and the same results from saved code.

Run as ``python -m tenonrt_testing.elsewhere``: a msgpack list of `Question` on standard input, of `Answer` on standard
output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Sequence

import msgspec
import numpy as np
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Array, Code, Problem, Tactic, dtype_name, numpy_dtype
from tenonrt.graph.attributes import restore_attrs
from tenonrt.plugins.registry import Registry

from tenonrt_testing.execution import PackedKernel, run, wrong


class SavedArray(msgspec.Struct, frozen=True):
    """An array as plain values."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: Array) -> SavedArray:
        return cls(dtype_name(array.dtype), array.shape, np.ascontiguousarray(array).tobytes())

    def array(self) -> Array:
        return np.frombuffer(self.data, numpy_dtype(self.dtype)).reshape(self.shape)


class Question(msgspec.Struct, frozen=True):
    """code None: which tactics are there for the problem? Otherwise: is the code with these weights right?"""

    kernel: str
    problem: Problem
    code: Code | None = None
    packed: tuple[SavedArray, ...] = ()
    seed: int = 0


class Answer(msgspec.Struct, frozen=True):
    """The tactics, or what is wrong with the result; ``why`` is empty when nothing is."""

    tactics: tuple[Tactic, ...] = ()
    why: str = ""


def ask(questions: Sequence[Question], seconds: float) -> list[Answer] | str:
    """The answers of a new process, or why there are none."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tenonrt_testing.elsewhere"],
            input=msgspec.msgpack.encode(list(questions)),
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the process did not finish within {seconds:g} s"
    if done.returncode:
        return f"the process ended with status {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
    return msgspec.msgpack.decode(done.stdout, type=list[Answer])


def answer(question: Question, registry: Registry) -> Answer:
    """What this process has to say; whatever the kernel raises is part of it."""
    problem = restore_attrs(question.problem, registry)
    kernel = registry.kernel(question.kernel)
    try:
        if question.code is None:
            return Answer(tuple(kernel.tactics(problem)))
        code = msgspec.structs.replace(question.code, problem=restore_attrs(question.code.problem, registry))
        sample = Sample.draw(problem, registry.layer_type, 2, question.seed)
        packed = PackedKernel(kernel, [saved.array() for saved in question.packed])
        device = registry.device(problem.device)
        bound = bind_sample(packed, code, sample, device)
        return Answer(why=wrong(run(bound, device), sample, code, bound, registry))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the answer carries it
        last = traceback.extract_tb(error.__traceback__)[-1]
        return Answer(why=f"it raised {error!r} in {last.name}, line {last.lineno}")


def main() -> None:
    """Answer everything and end. What plugins print goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[Question])
    registry = Registry()
    replies.write(msgspec.msgpack.encode([answer(question, registry) for question in questions]))
    replies.flush()


if __name__ == "__main__":
    main()
