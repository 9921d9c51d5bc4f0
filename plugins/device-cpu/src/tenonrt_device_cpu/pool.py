"""Threads for native code: made when first needed, asleep when idle, made again in a forked child.

A pool serves the programs of one number of threads. Its workers are Python threads that spend their lives in the
compiled loop (`program.emit`), without Python's lock; a program that finds the pool busy runs on its own thread alone.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from threading import Lock, Thread, get_native_id
from typing import TYPE_CHECKING

from tenonrt.contracts import ExecutionError

from tenonrt_device_cpu.program import layout
from tenonrt_device_cpu.program.machine import Loop, loop

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

AFFINITY = "TENONRT_AFFINITY"
_LINES = 128  # two cache lines, by which a pool is aligned


class Pool:
    """The threads beside the caller's."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.reset()

    def reset(self) -> None:
        """Start anew: a forked child has the pool's memory without its threads, and perhaps in the middle of a run."""
        self._lock = Lock()
        self._address = 0
        self._workers: list[Thread] = []

    def address(self) -> int:
        """Where the compiled loop finds the pool; its threads are there after the first call."""
        return self._address or self._start()

    def _start(self) -> int:
        compiled = loop()
        assert compiled is not None, "programs exist only where there is compiled code"
        with self._lock:
            if not self._address:
                cores = affinity()
                memory = ctypes.create_string_buffer(layout.POOL_SIZE + _LINES)
                start = ctypes.addressof(memory)
                start += -start % _LINES
                ctypes.c_uint64.from_address(start + layout.POOL_SYSCALL).value = compiled.syscall
                self._workers = []
                try:
                    for thread in range(1, self.threads):
                        core = cores[thread % len(cores)] if cores else None
                        worker = Thread(target=_work, args=(compiled, memory, start, thread, core), daemon=True)
                        worker.start()
                        self._workers.append(worker)
                except BaseException as error:  # an interrupt too must not leave threads that nobody can end
                    compiled.stop(start)
                    if not isinstance(error, RuntimeError):
                        raise
                    raise ExecutionError(
                        f"the system lets this process have {len(self._workers)} of the {self.threads - 1} threads "
                        f"that run beside the caller's: {error}; set TENONRT_NUM_THREADS to fewer than "
                        f"{self.threads}, or raise the limit (of processes in containers)"
                    ) from error
                self._memory, self._address = memory, start
            return self._address

    def stop(self) -> None:
        """End the threads; a program that is running goes on alone, and so do later ones."""
        compiled = loop()
        with self._lock:
            if self._address and compiled is not None:
                compiled.stop(self._address)
                for worker in self._workers:
                    worker.join(5)  # a worker may be in the middle of a chunk
                self._workers.clear()


def _work(compiled: Loop, memory: object, pool: int, thread: int, core: int | None) -> None:
    """The life of a worker, which keeps the pool's memory alive. Signals are for the application's own threads."""
    import signal

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if core is not None:
        os.sched_setaffinity(get_native_id(), {core})
    compiled.work(pool, thread)


def affinity() -> tuple[int, ...]:
    """The cores that TENONRT_AFFINITY names, in the order of the threads; empty when the system shall choose."""
    text = os.environ.get(AFFINITY, "")
    if not text.strip():
        return ()
    usable = os.sched_getaffinity(0)
    cores = [part.strip() for part in text.split(",")]
    if not all(core.isdecimal() and int(core) in usable for core in cores):
        raise ExecutionError(
            f"{AFFINITY} is {text!r}; it must list cores that this process may use, separated by commas: "
            f"{','.join(map(str, sorted(usable)))}"
        )
    return tuple(map(int, cores))


class Pools:
    """One pool for each number of threads that some program uses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pools: dict[int, Pool] = {}
        self._executors: dict[int, ThreadPoolExecutor] = {}

    def reset(self) -> None:
        """In a forked child."""
        self._lock = Lock()
        self._executors = {}
        for pool in self._pools.values():
            pool.reset()

    def of(self, threads: int) -> Pool:
        """The pool of programs that use ``threads`` threads."""
        with self._lock:
            if threads not in self._pools:
                self._pools[threads] = Pool(threads)
            return self._pools[threads]

    def executor(self, threads: int) -> ThreadPoolExecutor:
        """The same for machines without compiled code: one thread fewer, as the caller works too."""
        with self._lock:
            if threads not in self._executors:
                from concurrent.futures import ThreadPoolExecutor

                self._executors[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix=f"tenonrt-{threads}")
            return self._executors[threads]

    def stop(self) -> None:
        """End all compiled pools, before the interpreter goes and with it the memory they look at."""
        for pool in self._pools.values():
            pool.stop()


pools = Pools()
atexit.register(pools.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pools.reset)
