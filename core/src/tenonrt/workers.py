"""Worker processes: what can crash or hang is done there, and a crash or a hang is an answer too.

Messages are bytes after a four-byte length, on the worker's original standard input and output; what the work prints
goes to standard error. A worker ends when its owner does: its input closes.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import IO, BinaryIO, Self

from tenonrt.errors import BuildError

# Signals that come from what a process does. All others, of which SIGKILL is what a system short of memory sends, say
# nothing about the work.
_OWN_FAULTS = ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP")
_LONGEST = 1e6  # seconds: about half of what systems can wait for
# Not select, which refuses descriptors past 1024.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


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
        self.seconds = min(seconds, _LONGEST)  # allowed for one answer
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
                    with suppress(BrokenPipeError):  # the message that it died on is still to be sent
                        stream.close()
        self._process = None

    def ask(self, message: bytes) -> bytes:
        """The answer; `WorkerDiedError` when the process ends or takes too long over it, `BuildError` without one."""
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
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                )
            except OSError as error:
                raise BuildError(
                    f"no process for {self._module} can be started with {sys.executable or 'sys.executable, not set'}: "
                    f"{error}; raise this process's limits, or build where there is more room"
                ) from error
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
        with _Selector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(parts) < count:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
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
        if status >= 0:
            return WorkerDiedError(f"it ended its process with exit status {status}", True)
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return WorkerDiedError(f"it ended its process with {name}", name in _OWN_FAULTS)


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Be a worker: answer messages until the input closes, which ends an answer that nobody waits for any more.

    An interrupt from the terminal is for the owner, who ends this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if hasattr(selectors, "PollSelector"):
        threading.Thread(target=_end_with_owner, args=(requests.fileno(),), daemon=True).start()
    while (message := receive(requests)) is not None:
        send(replies, answer(message))


def _end_with_owner(descriptor: int) -> None:
    """End this process when the other end of its input is gone: an answer in progress may never come."""
    poll = select.poll()
    poll.register(descriptor, 0)  # of hang-ups systems tell unasked
    while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
        pass
    os._exit(1)


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
