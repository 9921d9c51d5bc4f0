"""What is asked of a kernel in another process: the same tactics, and the same results from saved code.

Run as ``python -m tenonrt_testing.elsewhere``: msgpack lists of `Question` on standard input, of `Answer` on standard
output, with their lengths as in `tenonrt.workers`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedReader
from threading import Timer
from types import TracebackType
from typing import IO, Self

import msgspec
import numpy as np
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Array, Code, Problem, Tactic, dtype_name, numpy_dtype
from tenonrt.graph.attributes import restore_attrs
from tenonrt.plugins.registry import Registry
from tenonrt.workers import receive, send

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


class OtherProcess:
    """Answers the questions about one kernel after another: starting and importing takes longer than most answers.

    One that ended or was too slow is replaced. Use as a context manager so that none is left behind.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, questions: Sequence[Question], seconds: float) -> list[Answer] | str:
        """The answers, or why there are none."""
        process, started = self._running(), time.monotonic()
        assert process.stdin is not None
        assert isinstance(process.stdout, BufferedReader)
        timer = Timer(seconds, process.kill)
        timer.start()
        try:
            send(process.stdin, msgspec.msgpack.encode(list(questions)))
            reply = receive(process.stdout)
        except BrokenPipeError:
            reply = None
        timer.cancel()
        if reply is not None:
            return msgspec.msgpack.decode(reply, type=list[Answer])
        status, errors = process.wait(), self._stop()
        if time.monotonic() - started >= seconds:
            return f"the process did not finish within {seconds:g} s"
        return f"the process ended with status {status}: {errors}"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "1"}
            command = [sys.executable, "-m", "tenonrt_testing.elsewhere"]
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process ends
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
            )
        return self._process

    def _stop(self) -> str:
        """End the process; the last of what it wrote to standard error."""
        if self._process is None or self._errors is None:
            return ""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # what was not sent yet
                    stream.close()
        with self._errors as file:
            file.seek(0)
            errors = file.read()
        self._process = self._errors = None
        return errors.decode(errors="replace")[-2000:]


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
    """Answer until the input closes. What plugins print goes to standard error."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    registry = Registry()
    while (message := receive(requests)) is not None:
        questions = msgspec.msgpack.decode(message, type=list[Question])
        send(replies, msgspec.msgpack.encode([answer(question, registry) for question in questions]))


if __name__ == "__main__":
    main()
