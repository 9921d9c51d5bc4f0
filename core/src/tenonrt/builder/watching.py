"""Whether other work of the machine disturbed a timed run, as Linux tells it: such a run says nothing of a kernel.

Beside one busy process on two cores a third of all runs had one thread only, and took twice as long; no statistic of a
few runs gets rid of that. Threads that sleep for want of work are told from those that want a core and get none by how
many threads of the machine want one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_TASKS, _RUNNABLE = Path("/proc/self/task"), Path("/proc/loadavg")
# A run is disturbed when its threads waited for a core for longer than this, and this part of its time.
_WAITED_SECONDS, _WAITED = 5e-6, 0.05
# The other threads were kept from their cores when they had less than this part of the time that they wanted.
_SERVED = 0.7


class Watch:
    """The threads of this process, from `begin` to `disturbed`. Where the system does not say, nothing is disturbed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._files: dict[str, int] = {}  # what the system says of each thread
        self._runnable: int | None = None  # an interrupt may come before it is open
        self._runnable = _open(_RUNNABLE)
        self._cores = os.cpu_count() or 1
        self._before = (0, 0)
        self._runs = self._disturbed = 0

    @property
    def share(self) -> float:
        """Of the runs so far, how many were disturbed."""
        return self._disturbed / max(1, self._runs)

    def begin(self) -> None:
        """Just before a run."""
        with suppress(OSError):
            for thread in os.listdir(_TASKS):  # noqa: PTH208 - before every run, and paths take ten times as long
                if thread not in self._files and (file := _open(_TASKS / thread / "schedstat")) is not None:
                    self._files[thread] = file
        self._before = self._counted()

    def disturbed(self, seconds: float) -> bool:
        """Just after it. seconds: what it took."""
        found = self._is_disturbed(seconds)
        self._runs += 1
        self._disturbed += found
        return found

    def _is_disturbed(self, seconds: float) -> bool:
        crowded = self._wanting() > self._cores
        waited, used = (after - before for after, before in zip(self._counted(), self._before, strict=True))
        if waited * 1e-9 > _WAITED_SECONDS + _WAITED * seconds:
            return True
        return crowded and used * 1e-9 < _SERVED * (self._threads - 1) * seconds

    def _counted(self) -> tuple[int, int]:
        """Nanoseconds that threads have waited for a core, and that threads other than this one have had one."""
        waited = used = 0
        for thread, file in list(self._files.items()):
            try:
                waited += int(os.pread(file, 64, 0).split()[1])
                used += time.clock_gettime_ns(_cpu_clock(int(thread)))
            except (OSError, IndexError):  # it has ended
                os.close(self._files.pop(thread))
        return waited, used - time.thread_time_ns()

    def _wanting(self) -> int:
        """How many threads of the machine run or want to."""
        if self._runnable is None:
            return 0
        return int(os.pread(self._runnable, 64, 0).split()[3].partition(b"/")[0])

    def __del__(self) -> None:
        for file in (*self._files.values(), self._runnable):
            if file is not None:
                os.close(file)


def _cpu_clock(thread: int) -> int:
    """The clock of a thread's processor time (linux/posix-timers.h: CPUCLOCK_PERTHREAD_MASK, CPUCLOCK_SCHED)."""
    return (~thread << 3) | 6


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
