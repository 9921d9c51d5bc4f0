"""The trial process: a candidate's first run happens here, so that a crash, a hang or a wild write harms nobody else.

Run as ``python -m tenonrt.builder.worker``; messages are msgpack.
"""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

import msgspec

from tenonrt.builder.sampling import LayerTypes
from tenonrt.builder.trial import Packs, Sample, try_tactic
from tenonrt.contracts import Kernel
from tenonrt.graph.attributes import restore_attrs
from tenonrt.plugins.registry import Registry
from tenonrt.problem import Code, NativeCode, Problem, Tactic
from tenonrt.workers import serve


class TrialRequest(msgspec.Struct, frozen=True):
    """Try one tactic of one kernel on one problem."""

    kernel: str
    problem: Problem
    tactic: Tactic


class TrialReply(msgspec.Struct, frozen=True):
    """ok False: ``why`` says what was wrong. blob, info, native, workspace: the parts of the `Code`."""

    ok: bool
    why: str = ""
    error: float = 0.0
    blob: bytes = b""
    info: dict[str, Any] = {}
    native: NativeCode | None = None
    workspace: int | None = None
    spoiled: bool = False  # the device answers nothing more in this process: a GPU after a wild access
    settled: bool = True  # False: a busy machine may have been the reason, so the timing cache must not learn it


class Worker:
    """Answers requests, keeping the samples of the latest problem."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._samples: tuple[bytes, list[Sample]] | None = None
        self._packs = Packs()

    def answer(self, request: TrialRequest) -> TrialReply:
        kernel = self.registry.kernel(request.kernel)
        problem = restore_attrs(request.problem, self.registry)
        verdict, code = self._try(kernel, problem, request.tactic)
        return TrialReply(verdict.ok, verdict.why, verdict.error, code.blob, code.info, code.native, code.workspace)

    def is_spoiled(self, device: str) -> bool:
        """Whether the device refuses all work from now on, whoever asks."""
        try:
            self.registry.device(device).synchronize(None)
        except Exception:  # noqa: BLE001 - a device may raise anything
            return True
        return False

    def _try(self, kernel: Kernel, problem: Problem, tactic: Tactic) -> tuple[Any, Code]:
        device = self.registry.device(problem.device)
        samples = self._samples_of(problem, self.registry.layer_type)
        return try_tactic(kernel, problem, tactic, samples, self.registry.layer_type, device, self._packs)

    def _samples_of(self, problem: Problem, layer_types: LayerTypes) -> list[Sample]:
        key = msgspec.msgpack.encode(problem)
        if self._samples is None or self._samples[0] != key:
            first = Sample.draw(problem, layer_types, 2, 0)
            # The same weights: packing them can take longer than all else in a trial.
            self._samples = (key, [first, Sample.draw(problem, layer_types, 1, 1, weights_of=first)])
            self._packs = Packs()
        return self._samples[1]


def _is_settled(error: Exception) -> bool:
    """Whether the same would be raised again: what the system refuses, memory or files, it may give another time."""
    return not any(isinstance(e, MemoryError | OSError) for e in (error, error.__cause__, error.__context__))


def _origin(error: Exception) -> str:
    """The innermost line outside of Python's own library, where authors find what they wrote."""
    # A device raises what a launch raised again, with the step's name.
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    last = ([frame for frame in frames if not _is_standard(Path(frame.filename))] or frames)[-1]
    return f"{last.name}, line {last.lineno} of {Path(last.filename).name}"


def _is_standard(file: Path) -> bool:
    return file.is_relative_to(sysconfig.get_path("stdlib")) and "site-packages" not in file.parts


def main() -> None:
    """Serve until the input closes."""
    worker = Worker(Registry())
    decoder = msgspec.msgpack.Decoder(TrialRequest)

    def answer(message: bytes) -> bytes:
        request = decoder.decode(message)
        try:
            reply = worker.answer(request)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the verdict carries it
            why = f"it raised {error!r} in {_origin(error)}"
            reply = TrialReply(
                False, why, settled=_is_settled(error), spoiled=worker.is_spoiled(request.problem.device)
            )
        return msgspec.msgpack.encode(reply)

    serve(answer)


if __name__ == "__main__":
    main()
    sys.exit(0)
