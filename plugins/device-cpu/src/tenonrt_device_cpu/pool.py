"""Threads for native calls: made when first needed, asleep when idle, made again in a forked child."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = Lock()


def workers(threads: int) -> ThreadPoolExecutor:
    """The pool of programs that use ``threads`` threads: one fewer than that, as the caller works too."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix=f"tenonrt-{threads}")
        return _pools[threads]


def _forget() -> None:
    """A forked child has the pools but not their threads, and perhaps a lock that a lost thread held."""
    global _lock
    _lock = Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
