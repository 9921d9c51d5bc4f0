"""The client of the trial process: started when first needed, killed when it hangs, replaced after a crash."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import msgspec

from tenonrt.builder.worker import TrialReply, TrialRequest, send
from tenonrt.problem import Problem, Tactic


class TrialProcess:
    """One worker process. Use as a context manager so that none is left behind."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds  # allowed for one trial: compiling, references and two runs
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def run(self, kernel: str, problem: Problem, tactic: Tactic) -> TrialReply:
        """The verdict on a tactic; a crash or a timeout is a verdict too."""
        message = msgspec.msgpack.encode(TrialRequest(kernel, problem, tactic))
        process = self._running()
        assert process.stdin is not None
        try:
            send(process.stdin, message)
            reply = self._read(self.seconds)
        except BrokenPipeError:
            reply = None
        if reply is None:
            why, settled = self._death()
            self.stop()
            return TrialReply(False, why, settled=settled)
        return msgspec.msgpack.decode(reply, type=TrialReply)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tenonrt.builder.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        return self._process

    def _read(self, seconds: float) -> bytes | None:
        """One whole message within the time, or None."""
        deadline = time.monotonic() + seconds
        head = self._exactly(4, deadline)
        return None if head is None else self._exactly(int.from_bytes(head, "little"), deadline)

    def _exactly(self, count: int, deadline: float) -> bytes | None:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, parts = self._process.stdout.fileno(), b""
        while len(parts) < count:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(descriptor, count - len(parts)) if ready else b""
            if not part:
                return None
            parts += part
        return parts

    def _death(self) -> tuple[str, bool]:
        """Why there is no reply, and whether another trial would end the same way: a slow one may not."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            return f"it did not finish within {self.seconds:g} s", False
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return f"it ended the trial process with {name}", True
