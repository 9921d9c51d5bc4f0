"""A straight line of steps: native ones in a row are one compiled program, Python steps stand between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from time import perf_counter
from typing import Any, NamedTuple

from tenonrt.contracts import Executable, ExecutionError, Launch, NativeCall

from tenonrt_device_cpu.loading import LoadedCode
from tenonrt_device_cpu.native import SIGNATURE, BoundCall, scratch_for, split
from tenonrt_device_cpu.pool import pools
from tenonrt_device_cpu.program.machine import loop
from tenonrt_device_cpu.program.table import NativeProgram

_NATIVE_MEMBERS = ("address", "packed", "scratch", "units")


class StraightLine:
    """A `Runnable`. Its buffers and scratch are its own, so it must not be run by two threads at once."""

    def __init__(self, launches: Sequence[Launch], threads: int) -> None:
        if threads < 1:
            raise ExecutionError(f"a program needs at least one thread, not {threads}")
        self._segments = _segments([_bind(launch) for launch in launches], threads)

    def run(self, stream: Any | None = None) -> None:
        for segment in self._segments:
            segment.run()

    def time(self, stream: Any | None = None) -> list[float]:
        return [seconds for segment in self._segments for seconds in segment.time()]


class PythonStep(NamedTuple):
    """An executable called through `Executable.launch`."""

    launch: Launch

    def run(self) -> None:
        step = self.launch
        try:
            step.executable.launch(step.inputs, step.outputs, step.workspace, None)  # type: ignore[union-attr]
        except Exception as error:
            error.add_note(f"in step {step.name!r}")
            raise ExecutionError(f"step {step.name!r} failed: {type(error).__name__}: {error}") from error

    def time(self) -> list[float]:
        return [_seconds(self.run)]


class CalledSegment:
    """Consecutive native calls made from Python, one by one: for machines without the compiled loop."""

    def __init__(self, calls: Sequence[BoundCall], threads: int) -> None:
        self._calls, self._threads = calls, threads
        self._scratch, begin, stride = scratch_for(max((c.scratch for c in calls), default=0), threads)
        self._scratches = [begin + thread * stride for thread in range(threads)]
        self._functions = [SIGNATURE(call.address) for call in calls]

    def run(self) -> None:
        for call, function in zip(self._calls, self._functions, strict=True):
            self._step(call, function)

    def time(self) -> list[float]:
        steps = zip(self._calls, self._functions, strict=True)
        return [_seconds(self._step, call, function) for call, function in steps]

    def _step(self, call: BoundCall, function: Any) -> None:
        for begin, end in call.phases:
            if begin == end:
                continue
            edges = split(begin, end, min(end - begin, self._threads))
            given = zip(self._scratches, pairwise(edges), strict=False)  # fewer parts than threads where units are few
            arguments = [(call.buffers, call.symbols, scratch, *span) for scratch, span in given]
            if status := self._spread(function, arguments):
                raise ExecutionError(f"step {call.name!r} failed: its native code returned status {status}")

    def _spread(self, function: Any, arguments: Sequence[tuple[int, ...]]) -> int:
        """Call for every range, the first here and the others in workers; the first non-zero status, else 0."""
        from concurrent.futures import wait  # as rare as machines without the compiled loop, and long to import

        pending = [pools.executor(self._threads).submit(function, *other) for other in arguments[1:]]
        try:
            statuses = [function(*arguments[0]), *(future.result() for future in pending)]
        finally:
            wait(pending)  # an interrupt must not free buffers that a worker still writes
        return next((int(status) for status in statuses if status), 0)


Segment = PythonStep | NativeProgram | CalledSegment


def _bind(launch: Launch) -> PythonStep | BoundCall:
    executable: object = launch.executable
    # The Protocol is the rule; asking it takes longer than binding the call (11 against 9 µs).
    if type(executable) is LoadedCode or isinstance(executable, NativeCall):
        return BoundCall(launch)
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
            segments.append(_native([step for step in group if isinstance(step, BoundCall)], threads))
        else:
            segments += [step for step in group if isinstance(step, PythonStep)]
    return segments


def _native(calls: Sequence[BoundCall], threads: int) -> NativeProgram | CalledSegment:
    compiled = loop()
    return CalledSegment(calls, threads) if compiled is None else NativeProgram(compiled, calls, threads)


def _seconds(run: Callable[..., None], *arguments: Any) -> float:
    start = perf_counter()
    run(*arguments)
    return perf_counter() - start
