"""Straight lines of Python and native steps. Native code is C where a compiler is at hand, a callback everywhere."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.contracts import Device, ExecutionError, Launch, NativeCall
from tenonrt_device_cpu.device import CpuDevice
from tenonrt_device_cpu.native import SIGNATURE, split
from tenonrt_device_cpu.program.table import chunks

SOURCE = """
#include <stdint.h>
/* y[i] = a * x[i] + w[i], in scratch first so that shared scratch would show */
int32_t axpy(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    float *y = buffers[0]; const float *x = buffers[1], *w = buffers[2]; float *t = scratch;
    for (int64_t i = begin; i < end; i++) { t[0] = x[i] * symbols[0]; y[i] = t[0] + w[i]; }
    return 0;
}
int32_t fail(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    return begin ? 7 : 0;
}
/* y[i, j] = x[i, j] through byte strides after one symbol */
int32_t strided(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    const int64_t *ys = symbols + 1, *xs = symbols + 3;
    for (int64_t i = begin; i < end; i++)
        for (int64_t j = 0; j < symbols[0]; j++)
            *(float *)((char *)buffers[0] + i * ys[0] + j * ys[1]) =
                *(const float *)((const char *)buffers[1] + i * xs[0] + j * xs[1]);
    return 0;
}
"""


@dataclass
class Native:
    """A `NativeCall` around any address."""

    address: int
    count: int
    packed: Sequence[np.ndarray] = ()
    scratch: int = 0
    strided_operands: tuple[int, ...] = ()
    keep: object = None

    def units(self, symbols: Sequence[int]) -> int:
        return self.count


@dataclass
class Python:
    """An `Executable` around any function."""

    function: Callable[..., None]
    calls: list[tuple[object, ...]] = field(default_factory=list)

    def launch(self, inputs, outputs, workspace, stream) -> None:
        self.calls.append((workspace, stream))
        self.function(inputs, outputs)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("native")
    (folder / "code.c").write_text(SOURCE)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", folder / "code.so", folder / "code.c"], check=True)
    return ctypes.CDLL(str(folder / "code.so"))


def address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def callback(function: Callable[..., int], count: int, **options) -> Native:
    """A native call made without a compiler; it re-enters Python."""
    pointer = SIGNATURE(function)
    return Native(ctypes.cast(pointer, ctypes.c_void_p).value or 0, count, keep=pointer, **options)


def floats(shape: tuple[int, ...], values: object = 0) -> np.ndarray:
    size = int(np.prod(shape))
    array = CpuDevice().allocate(size * 4).view(np.float32).reshape(shape)
    array[...] = values
    return array


def axpy(library: ctypes.CDLL, x: np.ndarray, w: np.ndarray, y: np.ndarray, a: int) -> Launch:
    call = Native(address(library, "axpy"), x.size, [w], scratch=4)
    assert isinstance(call, NativeCall)
    return Launch("axpy", call, (x,), (y,), None, (a,))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 4, 1000])
def test_native_steps_compute_in_order(library: ctypes.CDLL, threads: int, size: int) -> None:
    x, w, y, z = floats((size,), np.arange(size)), floats((size,), 1), floats((size,)), floats((size,))
    line = CpuDevice().bind([axpy(library, x, w, y, 2), axpy(library, y, w, z, 3)], threads)
    for _ in range(3):
        line.run(None)
    assert np.array_equal(z, (np.arange(size) * 2 + 1) * 3 + 1)


def test_a_python_step_stands_between_native_ones(library: ctypes.CDLL) -> None:
    x, w, y, z, last = floats((8,), 1), floats((8,), 1), floats((8,)), floats((8,)), floats((8,))
    negate = Python(lambda inputs, outputs: np.negative(inputs[0], out=outputs[0]))
    steps = [
        axpy(library, x, w, y, 2),
        Launch("negate", negate, (y,), (z,), "workspace", ()),
        axpy(library, z, w, last, 10),
    ]
    line = CpuDevice().bind(steps, 2)
    line.run(None)
    assert np.array_equal(last, np.full(8, -29.0))
    assert negate.calls == [("workspace", None)]
    last[:] = 0
    seconds = line.time(None)
    assert len(seconds) == 3
    assert all(s > 0 for s in seconds)
    assert last[0] == -29


def test_scalars_and_empty_arrays(library: ctypes.CDLL) -> None:
    x, w, y = floats((), 3), floats((), 1), floats(())
    nothing = np.zeros((0, 3), np.float32)
    seen = Python(lambda inputs, outputs: None)
    line = CpuDevice().bind(
        [axpy(library, x, w, y, 2), Launch("empty", seen, (nothing,), (nothing,), None, ())], threads=4
    )
    line.run(None)
    assert y == 7
    assert len(seen.calls) == 1


def test_callback_sees_buffers_symbols_scratch_and_range() -> None:
    seen = []

    def function(buffers: int, symbols: int, scratch: int, begin: int, end: int) -> int:
        pointers = ctypes.cast(buffers, ctypes.POINTER(ctypes.c_void_p))
        numbers = ctypes.cast(symbols, ctypes.POINTER(ctypes.c_int64))
        seen.append(([pointers[i] for i in range(3)], list(numbers[:2]), scratch, begin, end))
        return 0

    x, w, y = floats((4,)), floats((4,)), floats((4,))
    CpuDevice().bind([Launch("f", callback(function, 4, packed=[w], scratch=9), (x,), (y,), None, (5, 6))], 1).run(None)
    [(pointers, numbers, scratch, begin, end)] = seen
    assert pointers == [y.ctypes.data, x.ctypes.data, w.ctypes.data]
    assert numbers == [5, 6]
    assert scratch % 64 == 0
    assert (begin, end) == (0, 4)


def test_ranges_run_at_the_same_time_with_a_scratch_each() -> None:
    meeting = threading.Barrier(3, timeout=120)  # breaks, and the calls fail, unless three are inside at once
    scratches: set[int | None] = set()

    def function(buffers: int, symbols: int, scratch: int, begin: int, end: int) -> int:
        scratches.add(scratch)
        try:
            meeting.wait()
        except threading.BrokenBarrierError:
            return 1
        return 0

    line = CpuDevice().bind([Launch("meet", callback(function, 3, scratch=1), (), (), None, ())], 3)
    line.run(None)
    line.run(None)
    assert len(scratches) == 3
    assert None not in scratches


def test_a_native_call_that_lacks_a_member_is_told_which() -> None:
    class Half:
        address, packed = 1, ()

    with pytest.raises(ExecutionError, match=r"'half': a Half without `launch` .* lacks its scratch and units"):
        CpuDevice().bind([Launch("half", Half(), (), (), None, ())], 1)
    with pytest.raises(ExecutionError, match=r"a object has neither `launch` nor .*address, packed, scratch, units"):
        CpuDevice().bind([Launch("nothing", object(), (), (), None, ())], 1)


def test_a_slice_that_is_not_declared_is_refused_with_the_remedy() -> None:
    whole = floats((4, 40))
    for part in (whole[:, :16], whole[1:2, 1:17]):
        with pytest.raises(ExecutionError, match=r"buffer 0 .*must be listed in the executable's `strided_operands`"):
            CpuDevice().bind([Launch("f", callback(lambda *_: 0, 1), (), (part,), None, ())], 1)


def test_status_names_the_step(library: ctypes.CDLL) -> None:
    bad = Launch("pool5", Native(address(library, "fail"), 8), (), (), None, ())
    CpuDevice().bind([bad], 1).run(None)  # the range that begins at 0 is well
    with pytest.raises(ExecutionError, match=r"'pool5'.*status 7"):
        CpuDevice().bind([bad], 4).run(None)
    with pytest.raises(ExecutionError, match=r"'pool5'.*status 7"):
        CpuDevice().bind([bad], 4).time(None)


def test_python_exception_names_the_step_and_stops_the_line() -> None:
    after = Python(lambda inputs, outputs: None)

    def gather(inputs, outputs) -> None:
        raise IndexError("index 9 of 4")

    line = CpuDevice().bind(
        [Launch("take", Python(gather), (), (), None, ()), Launch("after", after, (), (), None, ())], 1
    )
    with pytest.raises(ExecutionError, match=r"'take'.*IndexError: index 9 of 4") as caught:
        line.run(None)
    assert isinstance(caught.value.__cause__, IndexError)
    assert caught.value.__cause__.__notes__ == ["in step 'take'"]
    assert not after.calls


def test_strided_operands_get_their_strides(library: ctypes.CDLL) -> None:
    whole, source = floats((6, 8), -1), floats((6, 5), np.arange(30).reshape(6, 5))
    target, x = whole[:, 2:7], source[:, ::-1]
    call = Native(address(library, "strided"), 6, strided_operands=(0, 1))
    CpuDevice().bind([Launch("copy", call, (x,), (target,), None, (5,))], 2).run(None)
    assert np.array_equal(target, x)
    assert (whole[:, [0, 1, 7]] == -1).all()


def test_undeclared_strides_and_bad_alignment_are_refused(library: ctypes.CDLL) -> None:
    x, y = floats((16,)), floats((16,))
    call = Native(address(library, "strided"), 1)
    with pytest.raises(ExecutionError, match=r"'s': buffer 1 .*strided_operands"):
        CpuDevice().bind([Launch("s", call, (x[::2],), (y,), None, ())], 1)
    with pytest.raises(ExecutionError, match=r"'s': buffer 0 .*multiple of 64"):
        CpuDevice().bind([Launch("s", call, (x,), (y[1:],), None, ())], 1)
    with pytest.raises(ExecutionError, match=r"'s'.*neither"):
        CpuDevice().bind([Launch("s", object(), (), (), None, ())], 1)  # type: ignore[arg-type]


def _run_in_child(line, y: np.ndarray, answers) -> None:
    line.run(None)
    answers.put(float(y.sum()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_pool_is_made_again_after_fork(library: ctypes.CDLL) -> None:
    x, w, y = floats((100,), 1), floats((100,), 1), floats((100,))
    line = CpuDevice().bind([axpy(library, x, w, y, 2)], 2)
    line.run(None)  # the parent's pool exists now
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_run_in_child, args=(line, y, answers))
    child.start()
    child.join(120)
    hung = child.is_alive()
    child.kill()
    assert not hung
    assert answers.get(timeout=120) == 300


@given(st.integers(0, 50), st.integers(1, 1000), st.integers(1, 70))
def test_chunks_partition_the_work(begin: int, units: int, threads: int) -> None:
    edges = split(begin, begin + units, chunks(units, threads))
    assert (edges[0], edges[-1]) == (begin, begin + units)
    sizes = np.diff(edges)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    assert len(sizes) == (1 if threads == 1 else min(units, 4 * threads))


def test_the_device_is_a_device() -> None:
    assert issubclass(CpuDevice, Device)
    with pytest.raises(ExecutionError, match="at least one thread"):
        CpuDevice().bind([], 0)
