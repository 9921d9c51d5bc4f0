"""Consecutive native steps as one table that the compiled loop runs in one call."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

import numpy as np
from tenonrt.contracts import ExecutionError

from tenonrt_device_cpu.native import BoundCall, address, scratch_for, split
from tenonrt_device_cpu.pool import Pool, pools
from tenonrt_device_cpu.program import layout
from tenonrt_device_cpu.program.machine import Loop

_PHASE = struct.Struct("=6Q")
_PROGRAM = struct.Struct("=6Q")


class NativeProgram:
    """A segment of native steps. Its buffers and scratch are its own, so it must not be run by two threads at once."""

    def __init__(self, loop: Loop, calls: Sequence[BoundCall], threads: int) -> None:
        self._loop, self._calls = loop, calls
        phases = [(step, call, span) for step, call in enumerate(calls) for span in call.phases if span[0] < span[1]]
        self._steps = [step for step, _, _ in phases]
        bounds = [split(*span, chunks(span[1] - span[0], threads)) for _, _, span in phases]
        self._bounds = np.array([edge for edges in bounds for edge in edges], np.int64)
        self._table = ctypes.create_string_buffer(self._encode(phases, bounds))
        alone = all(len(edges) == 2 for edges in bounds)
        self._pool: Pool | None = None if alone else pools.of(threads)
        self._scratch, begin, stride = scratch_for(max((c.scratch for c in calls), default=0), 1 if alone else threads)
        self._fields = (ctypes.addressof(self._table), len(phases), begin, stride)
        self._program = ctypes.create_string_buffer(_PROGRAM.pack(*self._fields, 0, loop.clock))
        self._address = ctypes.addressof(self._program)
        self._run_alone, self._run_shared = loop.run_alone, loop.run_shared

    def _encode(self, phases: Sequence[tuple[int, BoundCall, tuple[int, int]]], bounds: Sequence[list[int]]) -> bytes:
        table, edge = [], address(self._bounds)
        for (step, call, _), edges in zip(phases, bounds, strict=True):
            table.append(_PHASE.pack(call.address, call.buffers, call.symbols, edge, len(edges) - 1, step))
            edge += 8 * len(edges)
        return b"".join(table)

    def run(self) -> None:
        """`ExecutionError` names the first step that returned another status than 0."""
        self._start(self._address)

    def _start(self, program: int) -> None:
        pool = self._pool
        result = self._run_alone(program) if pool is None else self._run_shared(program, pool.address())
        if result:
            status, step = ctypes.c_int32(result & 0xFFFFFFFF).value, (result >> 32) - 1
            name = self._calls[step].name
            raise ExecutionError(f"step {name!r} failed: its native code returned status {status}")

    def time(self) -> list[float]:
        """Run once; the seconds of each step by stamps that the compiled loop takes between phases."""
        stamps = np.zeros(len(self._steps) + 1, np.int64)
        program = ctypes.create_string_buffer(_PROGRAM.pack(*self._fields, address(stamps), self._loop.clock))
        self._start(ctypes.addressof(program))
        seconds = [0.0] * len(self._calls)
        for step, nanoseconds in zip(self._steps, np.diff(stamps).tolist(), strict=True):
            seconds[step] += nanoseconds * 1e-9
        return seconds


def chunks(units: int, threads: int) -> int:
    """Into how many parts a phase is split: by its units and the program's threads only."""
    return 1 if threads == 1 else min(units, layout.CHUNKS_PER_THREAD * threads, layout.MAX_CHUNKS)
