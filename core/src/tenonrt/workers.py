"""Worker processes: what can crash or hang is done there, and a crash or a hang is an answer too.

Messages are bytes after a four-byte length, on the worker's original standard input and output; what the work prints
goes to standard error. A worker ends when its owner does: its input closes.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, BinaryIO, Self


class WorkerDiedError(Exception):
    """No answer came. settled: another attempt would end the same way; one that was too slow might not."""

    def __init__(self, why: str, settled: bool) -> None:
        super().__init__(why)
        self.settled = settled


class WorkerProcess:
    """A process that runs a module and answers messages: started when first asked, and again after it died.

    Use as a context manager so that none is left behind. After a fork the child starts its own.
    """

    def __init__(self, module: str, seconds: float, environment: Mapping[str, str] | None = None) -> None:
        self.seconds = seconds  # allowed for one answer
        self._module = module
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def kill(self) -> None:
        """End the process at once; who waits for its reply hears of it."""
        if (process := self._process) is not None:
            process.kill()

    def stop(self) -> None:
        """End the process; the next message starts another."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
        self._process = None

    def ask(self, message: bytes) -> bytes:
        """The answer; `WorkerDiedError` when the process ends or takes too long over it."""
        process = self._running()
        assert process.stdin is not None
        try:
            send(process.stdin, message)
            reply = self._read(self.seconds)
        except BrokenPipeError:
            reply = None
        if reply is None:
            death = self._death()
            self.stop()
            raise death
        return reply

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            path = os.pathsep.join(p for p in sys.path if p)
            environment = {**os.environ, **self._environment, "PYTHONPATH": path}
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
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

    def _death(self) -> WorkerDiedError:
        assert self._process is not None
        try:
            status = self._process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            return WorkerDiedError(f"it did not finish within {self.seconds:g} s", False)
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return WorkerDiedError(f"it ended its process with {name}", True)


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Be a worker: answer messages until the input closes."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (message := receive(requests)) is not None:
        send(replies, answer(message))


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message."""
    stream.write(struct.pack("<I", len(message)) + message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes | None:
    """The next message; None when the other side is gone."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    (length,) = struct.unpack("<I", head)
    body = stream.read(length)
    return body if len(body) == length else None
