"""The compiled loop: that it is what its source says, and that every unit of work is done once."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import Code, ExecutionError, Launch, NativeCode, Problem, ProblemLayer, Tactic
from tenonrt_device_cpu import line as straight
from tenonrt_device_cpu import pool
from tenonrt_device_cpu.device import CpuDevice
from tenonrt_device_cpu.line import StraightLine
from tenonrt_device_cpu.memory import mapped
from tenonrt_device_cpu.program import machine

CODE = Path(machine.__file__).parent / "code"
MACHINES = ("x86_64", "aarch64")

COUNT = """
#include <stdint.h>
/* buffers[0][i] += 1; status 5 for the range with unit symbols[0], 9 where two threads share scratch */
int32_t count(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    volatile int64_t *mine = scratch;
    int64_t *counts = buffers[0];
    for (int64_t i = begin; i < end; i++) {
        *mine = i;
        counts[i]++;
        for (int n = 0; n < symbols[1]; n++) __asm__ volatile("" ::: "memory");
        if (*mine != i) return 9;
    }
    return begin <= symbols[0] && symbols[0] < end ? 5 : 0;
}
/* halves a subnormal number, and makes a normal one of it: 0 from threads that read subnormal operands as 0 */
int32_t scale(void *const *buffers, const int64_t *symbols, void *scratch, int64_t begin, int64_t end) {
    volatile float *y = buffers[0], small = 1e-39f, factors[] = {0.5f, 1e9f};
    for (int64_t i = begin; i < end; i++) y[i] = small * factors[i % 2];
    return 0;
}
"""


FLUSH = 0x8040  # of x86_64: subnormal results and operands are zero

COMPILE = """
import json, sys
import llvmlite.binding as llvm
from tenonrt_device_cpu.program.generate import compile_for, describe
text, entries = compile_for(sys.argv[1])
version = ".".join(map(str, llvm.llvm_version_info))
print(json.dumps({"text": text.hex(), "version": version, "described": describe(sys.argv[1], entries)}))
"""


@pytest.mark.parametrize("name", MACHINES)
def test_the_shipped_code_is_the_sources(name: str) -> None:
    """After a change: python -m tenonrt_device_cpu.program.generate

    In a process of its own: options of LLVM hold for a whole process, and kernels set some.
    """
    pytest.importorskip("llvmlite.binding")
    recorded = json.loads((CODE / f"{name}.json").read_text())
    done = subprocess.run([sys.executable, "-c", COMPILE, name], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if recorded["llvm"] != found["version"]:
        pytest.skip(f"LLVM {recorded['llvm']} made the shipped code, another one is installed")
    assert (CODE / f"{name}.bin").read_bytes().hex() == found["text"]
    assert recorded == found["described"]


def test_code_that_needs_a_linker_is_refused() -> None:
    llvm = pytest.importorskip("llvmlite.binding")
    from tenonrt_device_cpu.program.elf import text_of

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="small")
    source = "declare void @other()\ndefine void @f() {\n call void @other()\n ret void\n}"
    with pytest.raises(ValueError, match="relocations"):
        text_of(target.emit_object(llvm.parse_assembly(source)))
    with pytest.raises(ValueError, match="64-bit little-endian ELF"):
        text_of(b"MZ" + bytes(100))


def test_code_in_memory_is_never_writable_and_executable() -> None:
    memory = mapped(b"\xc3" * 5000)
    assert mapped(b"\xc3" * 5000) is memory
    rights = {}
    for row in Path("/proc/self/maps").read_text().splitlines():
        span, rights[row] = row.split()[:2]
        begin, end = (int(part, 16) for part in span.split("-"))
        if not begin <= memory.address < end:
            del rights[row]
    assert list(rights.values()) == ["r-xp"]


def test_machines_without_code_have_no_loop() -> None:
    assert machine.load("linux", "riscv64") is None
    assert machine.load("darwin", "arm64") is None


def code(native: NativeCode | None, blob: bytes = b"\xc3") -> Code:
    problem = Problem((ProblemLayer("Activation", {}, (), ()),), (), (), (), "cpu")
    return Code(problem, Tactic(), blob, native=native)


def test_loading_says_what_is_lacking() -> None:
    device = CpuDevice()
    found = device.load(code(NativeCode((3, 2), scratch=7, strided=(0,), machine=platform.machine())), [])
    assert (found.units([]), found.scratch, found.strided_operands, found.packed) == ([3, 2], 7, (0,), [])  # type: ignore[attr-defined]
    with pytest.raises(ExecutionError, match="Activation needs quantum and tricorder, which this processor lacks"):
        device.load(code(NativeCode((1,), features=("quantum", "tricorder"))), [])
    with pytest.raises(ExecutionError, match="needs a vax processor"):
        device.load(code(NativeCode((1,), machine="vax")), [])
    with pytest.raises(ExecutionError, match="begins at byte 4 of 1"):
        device.load(code(NativeCode((1,), entry=4)), [])
    with pytest.raises(ExecutionError, match="no native code"):
        device.load(code(None), [])


class Counting:
    """A `NativeCall` that counts how often each unit is done."""

    packed, scratch = (), 8

    def __init__(self, library: Any, phases: tuple[int, ...]) -> None:
        self.address = ctypes.cast(library.count, ctypes.c_void_p).value or 0
        self.phases = phases

    def units(self, symbols: object) -> tuple[int, ...]:
        return self.phases


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("count")
    (folder / "count.c").write_text(COUNT)
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", folder / "count.so", folder / "count.c"], check=True)
    return ctypes.CDLL(str(folder / "count.so"))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Reads and sets the thread's floating-point rules."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.c").write_text(
        "#include <xmmintrin.h>\nunsigned get(void) { return _mm_getcsr(); } void set(unsigned r) { _mm_setcsr(r); }"
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "rules.so", folder / "rules.c"], check=True)
    return ctypes.CDLL(str(folder / "rules.so"))


def program(library: Any, threads: int, steps: int, bad: int = -1, spins: int = 0) -> tuple[StraightLine, np.ndarray]:
    draw = random.Random(threads * 1000 + steps)
    counts = CpuDevice().allocate(8 * 64 * steps).view(np.int64).reshape(steps, 64)
    launches = []
    for row in counts:
        phases = [draw.choice((0, 1, 2, 3, 7, 16)) for _ in range(draw.choice((1, 1, 2, 3)))]
        row[sum(phases) :] = -1
        launches.append(Launch("count", Counting(library, tuple(phases)), (), (row,), None, (bad, spins)))
    return StraightLine(launches, threads), counts


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
def test_every_unit_is_done_once_a_run(library: Any, threads: int) -> None:
    line, counts = program(library, threads, 200)
    for runs in range(1, 301):
        line.run()
        assert set(np.unique(counts)) <= {-1, runs}, runs
        if runs % 50 == 0:
            time.sleep(0.01)  # workers go to sleep and are woken again


def test_programs_side_by_side_share_one_pool(library: Any) -> None:
    lines = [program(library, 3, 100, spins=50) for _ in range(6)]

    def work(line: StraightLine) -> None:
        for _ in range(300):
            line.run()

    threads = [threading.Thread(target=work, args=(line,)) for line, _ in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(set(np.unique(counts)) <= {-1, 300} for _, counts in lines)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets the floating-point rules of x86_64")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chosen", [0, FLUSH])
def test_the_applications_rules_do_not_change_bits(library: Any, rules: Any, threads: int, chosen: int) -> None:
    """Neither the caller's own nor those of the thread that made the pool; the caller's are as before afterwards.

    Subnormal results are 0 (they cost a hundred cycles and more each), subnormal operands what they are.
    """
    y = CpuDevice().allocate(4 * 64).view(np.float32)
    call = Counting(library, (64,))
    call.address = ctypes.cast(library.scale, ctypes.c_void_p).value or 0
    line = StraightLine([Launch("scale", call, (), (y,), None, ())], threads)
    before = rules.get()
    rules.set(before | chosen)
    try:
        line.run()
        assert rules.get() == before | chosen
    finally:
        rules.set(before)
    assert (y[::2] == 0).all()
    assert (y[1::2] == np.float32(1e-39) * np.float32(1e9)).all()


@pytest.mark.parametrize("threads", [1, 4])
def test_times_are_of_each_step(library: Any, threads: int) -> None:
    counts = CpuDevice().allocate(3 * 128).view(np.int64).reshape(3, 16)
    line = StraightLine(
        [
            Launch("count", Counting(library, (8, 8)), (), (row,), None, (-1, spins))
            for row, spins in zip(counts, (0, 100_000, 0), strict=True)
        ],
        threads,
    )
    seconds = np.min([line.time() for _ in range(5)], axis=0)
    assert seconds[1] > 10 * max(seconds[0], seconds[2])
    assert (counts == 5).all()


def test_without_compiled_code_python_calls_the_steps(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straight, "loop", lambda: None)
    for threads in (1, 3):
        line, counts = program(library, threads, 20)
        for _ in range(3):
            line.run()
        assert len(line.time()) == 20
        assert set(np.unique(counts)) <= {-1, 4}
        failing, _ = program(library, threads, 20, bad=0)
        with pytest.raises(ExecutionError, match="'count' failed: its native code returned status 5"):
            failing.run()


def test_a_process_ends_with_workers_asleep_and_awake() -> None:
    script = """
import threading
from tenonrt_device_cpu.pool import pools
for _ in range(3):
    pools.of(4).address()
assert threading.active_count() == 4
"""
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_stopped_pool_does_no_harm(library: Any) -> None:
    """What runs while the interpreter ends runs on its own thread."""
    line, counts = program(library, 17, 20)
    line.run()
    from tenonrt_device_cpu.pool import pools

    before = threading.active_count()
    pools.of(17).stop()
    assert threading.active_count() == before - 16
    line.run()
    assert set(np.unique(counts)) <= {-1, 2}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs a system that ties threads to cores")
def test_threads_that_the_system_refuses_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's limit of processes does; those that were started end, and more may be allowed later."""
    started: list[threading.Thread] = []

    class Limited(threading.Thread):
        def start(self) -> None:
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    made = pool.Pool(5)
    with monkeypatch.context() as patched:
        patched.setattr(pool, "Thread", Limited)
        with pytest.raises(
            ExecutionError, match=r"have 2 of the 4 threads .*: can't start .* TENONRT_NUM_THREADS to few"
        ):
            made.address()
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
    assert made.address()
    made.stop()


def test_workers_block_signals(library: Any) -> None:
    line, _ = program(library, 3, 20)
    line.run()
    from tenonrt_device_cpu.pool import pools

    for worker in pools.of(3)._workers:
        status = Path(f"/proc/self/task/{worker.native_id}/status").read_text()
        blocked = int(next(row for row in status.splitlines() if row.startswith("SigBlk")).split()[1], 16)
        assert blocked & 1 << 1  # SIGINT
