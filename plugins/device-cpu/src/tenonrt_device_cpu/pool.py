"""Threads for native calls: made when first needed, asleep when idle, made again in a forked child."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock


class Pools:
    """One pool for each number of threads that some program uses."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start anew: a forked child has the pools without their threads, and perhaps a lock that a lost one held."""
        self._lock = Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def workers(self, threads: int) -> ThreadPoolExecutor:
        """The pool of programs that use ``threads`` threads: one fewer than that, as the caller works too."""
        with self._lock:
            if threads not in self._pools:
                self._pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix=f"tenonrt-{threads}")
            return self._pools[threads]


pools = Pools()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pools.reset)
