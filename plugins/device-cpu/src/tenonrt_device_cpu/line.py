"""A straight line of steps: native calls run back to back from prebuilt arguments, Python steps between them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import Any

from tenonrt.contracts import Executable, ExecutionError, Launch, NativeCall

from tenonrt_device_cpu.native import BoundCall
from tenonrt_device_cpu.pool import pools

_NATIVE_MEMBERS = ("address", "packed", "scratch", "units")


class StraightLine:
    """A `Runnable`. Its buffers and scratch are its own, so it must not be run by two threads at once."""

    def __init__(self, launches: Sequence[Launch], threads: int) -> None:
        if threads < 1:
            raise ExecutionError(f"a program needs at least one thread, not {threads}")
        self._threads = threads
        self._steps = [_bind(launch, threads) for launch in launches]
        self._segments = _segments(self._steps, threads)

    def run(self, stream: Any | None = None) -> None:
        for segment in self._segments:
            segment.run()

    def time(self, stream: Any | None = None) -> list[float]:
        alone = [_segments([step], self._threads) for step in self._steps]
        return [_seconds(segment) for [segment] in alone]


@dataclass(frozen=True)
class PythonStep:
    """An executable called through `Executable.launch`."""

    launch: Launch

    def run(self) -> None:
        step = self.launch
        try:
            step.executable.launch(step.inputs, step.outputs, step.workspace, None)  # type: ignore[union-attr]
        except Exception as error:
            error.add_note(f"in step {step.name!r}")
            raise ExecutionError(f"step {step.name!r} failed: {type(error).__name__}: {error}") from error


class NativeSegment:
    """Consecutive native calls, in one loop without anything else between them."""

    def __init__(self, calls: Sequence[BoundCall], threads: int) -> None:
        self._calls = [(call.function, call.ranges, call.name) for call in calls]
        self._threads = threads

    def run(self) -> None:
        for function, ranges, name in self._calls:
            status = function(*ranges[0]) if len(ranges) == 1 else self._spread(function, ranges)
            if status:
                raise ExecutionError(f"step {name!r} failed: its native code returned status {status}")

    def _spread(self, function: Any, ranges: Sequence[tuple[Any, ...]]) -> int:
        """Call every range, the first here and the others in workers; the first non-zero status, 0 when all is well."""
        if not ranges:
            return 0
        pending = [pools.workers(self._threads).submit(function, *arguments) for arguments in ranges[1:]]
        try:
            statuses = [function(*ranges[0]), *(future.result() for future in pending)]
        finally:
            wait(pending)  # an interrupt must not free buffers that a worker still writes
        return next((int(status) for status in statuses if status), 0)


Segment = PythonStep | NativeSegment


def _bind(launch: Launch, threads: int) -> PythonStep | BoundCall:
    executable: object = launch.executable
    if isinstance(executable, NativeCall):
        return BoundCall(launch, threads)
    if isinstance(executable, Executable):
        return PythonStep(launch)
    raise ExecutionError(f"step {launch.name!r}: {_uncallable(executable)}")


def _uncallable(executable: object) -> str:
    """What keeps an executable from being called; some members of a native call are taken for the wish to be one."""
    found = type(executable).__name__
    lacking = [name for name in _NATIVE_MEMBERS if not hasattr(executable, name)]
    if len(lacking) < len(_NATIVE_MEMBERS):
        return f"a {found} without `launch` must be a `NativeCall`, and lacks its {' and '.join(lacking)}"
    return f"a {found} has neither `launch` nor the members of `NativeCall`, {', '.join(_NATIVE_MEMBERS)}"


def _segments(steps: Sequence[PythonStep | BoundCall], threads: int) -> list[Segment]:
    segments: list[Segment] = []
    for native, group in groupby(steps, lambda step: isinstance(step, BoundCall)):
        if native:
            segments.append(NativeSegment([step for step in group if isinstance(step, BoundCall)], threads))
        else:
            segments += [step for step in group if isinstance(step, PythonStep)]
    return segments


def _seconds(segment: Segment) -> float:
    start = perf_counter()
    segment.run()
    return perf_counter() - start
