"""The clients of trial processes: started when first needed, killed when they hang, replaced after a crash."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import msgspec

from tenonrt.builder.worker import TrialReply, TrialRequest, send
from tenonrt.problem import Problem, Tactic


class TrialProcess:
    """One worker process. Use as a context manager so that none is left behind."""

    def __init__(self, seconds: float, environment: Mapping[str, str] | None = None) -> None:
        self.seconds = seconds  # allowed for one trial: compiling, references and two runs
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

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
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None

    def run(self, kernel: str, problem: Problem, tactic: Tactic) -> TrialReply:
        """The verdict on a tactic; a crash or a timeout is a verdict too."""
        return self.answer(TrialRequest(kernel, problem, tactic))

    def answer(self, request: TrialRequest) -> TrialReply:
        """As `run`."""
        message = msgspec.msgpack.encode(request)
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
            path = os.pathsep.join(p for p in sys.path if p)
            environment = {**os.environ, **self._environment, "PYTHONPATH": path}
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


# Processes side by side would fight over the cores if the references of each used all of them.
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP", "VECLIB")}
# Each process holds the samples of one problem, which may be large.
_MOST_PROCESSES = 8


def usable_cores() -> int:
    """Cores this process may run on, which containers and ``taskset`` reduce."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class TrialPool:
    """As many worker processes as the machine has cores, for first runs; nothing is timed while they work."""

    def __init__(self, seconds: float, count: int | None = None) -> None:
        self.count = min(usable_cores(), _MOST_PROCESSES) if count is None else count
        self._processes = [TrialProcess(seconds, _ONE_THREAD) for _ in range(self.count)]
        self._stopped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes; the next request starts new ones."""
        for process in self._processes:
            process.stop()

    def run(self, groups: Sequence[Sequence[TrialRequest]], done: Callable[[int, list[TrialReply]], None]) -> None:
        """Answer groups of requests side by side, those of one group by one process, which keeps its samples.

        ``done(group, replies)`` is called in this thread as groups are finished; what it raises ends all of them.
        """
        free: SimpleQueue[TrialProcess] = SimpleQueue()
        for process in self._processes:
            free.put(process)
        self._stopped = False

        def answer(group: Sequence[TrialRequest]) -> list[TrialReply]:
            process = free.get()
            try:
                return [process.answer(request) for request in group if not self._stopped]
            finally:
                free.put(process)

        with ThreadPoolExecutor(self.count) as threads:
            pending = {threads.submit(answer, group): index for index, group in enumerate(groups)}
            try:
                for future in as_completed(pending):
                    done(pending[future], future.result())
            except BaseException:
                self._stopped = True
                threads.shutdown(wait=False, cancel_futures=True)
                for process in self._processes:
                    process.kill()
                raise
