"""The clients of trial processes: one, and as many as the machine has cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import msgspec

from tenonrt.builder.worker import TrialReply, TrialRequest
from tenonrt.problem import Problem, Tactic
from tenonrt.workers import WorkerDiedError, WorkerProcess


class TrialProcess(WorkerProcess):
    """One process for first runs. ``seconds``: allowed for one trial: compiling, references and two runs."""

    def __init__(self, seconds: float, environment: Mapping[str, str] | None = None) -> None:
        super().__init__("tenonrt.builder.worker", seconds, environment)

    def run(self, kernel: str, problem: Problem, tactic: Tactic) -> TrialReply:
        """The verdict on a tactic; a crash or a timeout is a verdict too."""
        return self.answer(TrialRequest(kernel, problem, tactic))

    def answer(self, request: TrialRequest) -> TrialReply:
        """As `run`. A process whose device was spoiled ends: what comes next is not to blame."""
        try:
            answer = self.ask(msgspec.msgpack.encode(request))
        except WorkerDiedError as death:
            return TrialReply(False, str(death), settled=death.settled)
        reply = msgspec.msgpack.decode(answer, type=TrialReply)
        if reply.spoiled:
            self.stop()
        return reply


# Processes side by side would fight over the cores if the references of each used all of them.
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP", "VECLIB")}
# Each process holds the samples of one problem, which may be large.
_MOST_PROCESSES = 16


def usable_cores() -> int:
    """Cores this process may run on, which containers and ``taskset`` reduce."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# First runs that take as long as a process takes to start.
_WORTH_A_PROCESS = 8


class TrialPool:
    """As many worker processes as the machine has cores, for first runs; nothing is timed while they work.

    A process is started when there is enough for it to do.
    """

    def __init__(self, seconds: float, count: int | None = None) -> None:
        self.count = min(usable_cores(), _MOST_PROCESSES) if count is None else count
        self._processes = [TrialProcess(seconds, _ONE_THREAD) for _ in range(self.count)]
        self._used = 0  # of the processes: the first so many have been asked before
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
        requests = sum(map(len, groups))
        self._used = max(self._used, 1, min(self.count, requests // _WORTH_A_PROCESS))
        free: SimpleQueue[TrialProcess] = SimpleQueue()
        for process in self._processes[: self._used]:
            free.put(process)
        self._stopped = False

        def answer(group: Sequence[TrialRequest]) -> list[TrialReply]:
            process = free.get()
            try:
                return [process.answer(request) for request in group if not self._stopped]
            finally:
                free.put(process)

        with ThreadPoolExecutor(self._used) as threads:
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
