"""Engines whose steps are machine code: right bits, whatever else the process does meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tenonrt import Engine, ExecutionError, Network, Registry

Build = Callable[..., Engine]
SHAPE = (64, 50)


@pytest.fixture
def cases(registry: Registry) -> Any:
    """The module of test networks, which is on the path as the plugins are."""
    import native_networks

    return native_networks


def ones(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(shape, np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_chain_is_right_every_time(build: Build, cases: Any, registry: Registry, threads: int) -> None:
    engine = build(cases.chain(registry, 9, SHAPE), threads)
    assert all(code.native for code in engine.plan.codes)
    context, x = engine.create_context(), ones(*SHAPE)
    wanted = cases.expected(x, 9).tobytes()
    assert all(context.execute({"x": x})["y"].tobytes() == wanted for _ in range(200))


def test_ten_threads_with_a_context_each(build: Build, cases: Any, registry: Registry) -> None:
    engine = build(cases.chain(registry, 6, SHAPE), 3)
    wrong: list[int] = []

    def serve(number: int) -> None:
        context, x = engine.create_context(), ones(*SHAPE) * number
        wanted = cases.expected(x, 6).tobytes()
        bad = sum(context.execute({"x": x})["y"].tobytes() != wanted for _ in range(1000))
        wrong.append(bad)

    workers = [threading.Thread(target=serve, args=(n,)) for n in range(10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == [0] * 10


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_phase_sees_all_of_the_one_before(build: Build, cases: Any, registry: Registry, threads: int) -> None:
    """The second phase reads backwards what the first one wrote, so that threads read what others wrote."""
    context = build(cases.phases(registry), threads).create_context()
    for size in (1, 2, 7, 4096, 100_003):
        x = ones(size)
        for _ in range(20):
            assert np.array_equal(context.execute({"x": x})["y"], np.maximum(x, 0))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_status_stops_the_program_and_names_the_step(
    build: Build, cases: Any, registry: Registry, threads: int
) -> None:
    import native_cases

    plan = build(cases.chain(registry, 6, SHAPE), threads).plan
    bad = native_cases.machine_code(native_cases.FAIL)
    codes = list(plan.codes)
    step = next(step for step in plan.program.steps if step.name == "relu_3")
    codes.append(msgspec.structs.replace(codes[step.code], blob=bad))
    steps = [msgspec.structs.replace(s, code=len(codes) - 1) if s is step else s for s in plan.program.steps]
    program = msgspec.structs.replace(plan.program, steps=tuple(steps))
    context = Engine(msgspec.structs.replace(plan, program=program, codes=codes), registry).create_context()
    for _ in range(3):
        with pytest.raises(ExecutionError, match=r"'relu_3' failed: its native code returned status 7"):
            context.execute({"x": ones(*SHAPE)})


def test_the_profiler_hears_every_step(build: Build, cases: Any, registry: Registry) -> None:
    context = build(cases.chain(registry, 5, (300, 300)), 2).create_context()
    heard: list[tuple[str, float]] = []
    context.profiler = lambda name, seconds: heard.append((name, seconds))
    x = ones(300, 300)
    assert np.array_equal(context.execute({"x": x})["y"], cases.expected(x, 5))
    assert [name for name, _ in heard] == ["add_0", "relu_1", "add_2", "relu_3", "add_4"]
    assert all(1e-6 < seconds < 1 for _, seconds in heard)


def test_python_steps_divide_native_ones(registry: Registry, cases: Any, build: Build) -> None:
    from tenonrt import Builder, BuilderConfig
    from tenonrt.plan.program import Choice

    network = Network("mixed", registry)
    h = network.add_activation(network.add_input("x", SHAPE), function="relu", name="a")
    h = network.add_activation(h, function="tanh", name="b")
    network.mark_output(network.add_activation(h, function="relu", name="c"), "y")
    native, python = ("native-cases:cpu/Activation.relu", "default"), ("tenonrt-kernel-numpy:*/*.numpy", "default")
    choice = Choice({"a": native, "b": python, "c": native})
    engine = Builder(BuilderConfig(optimization_level=0, threads=2, replay=choice)).build(network)
    x = ones(*SHAPE)
    y = engine.create_context().execute({"x": x})["y"]
    np.testing.assert_allclose(y, np.tanh(np.maximum(x, 0)), rtol=1e-6)


def test_an_idle_engine_uses_no_processor(build: Build, cases: Any, registry: Registry) -> None:
    context = build(cases.chain(registry, 6, SHAPE), 3).create_context()
    context.execute({"x": ones(*SHAPE)})
    time.sleep(0.05)  # workers spin for a moment
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.02


def _child(context: Any, x: Any, answers: Any) -> None:
    answers.put([context.execute({"x": x})["y"].tobytes() for _ in range(20)])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_in_the_middle_of_other_runs(build: Build, cases: Any, registry: Registry) -> None:
    """A child made while another thread runs has a pool of its own, and the parent keeps its own."""
    engine = build(cases.chain(registry, 6, SHAPE), 3)
    idle, busy, x = engine.create_context(), engine.create_context(), ones(*SHAPE)
    wanted = cases.expected(x, 6).tobytes()
    idle.execute({"x": x})
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            assert busy.execute({"x": x})["y"].tobytes() == wanted

    runner = threading.Thread(target=load)
    runner.start()
    try:
        fork = multiprocessing.get_context("fork")
        for _ in range(5):
            answers = fork.Queue()
            child = fork.Process(target=_child, args=(idle, x, answers))
            child.start()
            found = answers.get(timeout=120)
            child.join(120)
            assert child.exitcode == 0
            assert set(found) == {wanted}
    finally:
        stop.set()
        runner.join()
    assert idle.execute({"x": x})["y"].tobytes() == wanted


SPAWNED = """
import multiprocessing, sys, numpy as np, tenonrt

def run(number):
    x = np.load(sys.argv[1] + "/x.npy")
    return tenonrt.Engine.load(sys.argv[1] + "/a.plan").create_context().execute({"x": x})["y"].tobytes()

if __name__ == "__main__":
    here = run(0)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert set(pool.map(run, range(4))) == {here}
    np.save(sys.argv[1] + "/y.npy", np.frombuffer(here, np.float32))
"""


def test_spawned_processes_load_and_run(build: Build, cases: Any, registry: Registry, tmp_path: Path) -> None:
    build(cases.chain(registry, 6, SHAPE), 2).save(tmp_path / "a.plan")
    x = ones(*SHAPE)
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "spawned.py").write_text(SPAWNED)
    subprocess.run([sys.executable, tmp_path / "spawned.py", str(tmp_path)], check=True, timeout=300)
    assert np.load(tmp_path / "y.npy").tobytes() == cases.expected(x, 6).tobytes()


def test_an_interrupt_leaves_a_context_usable(build: Build, cases: Any, registry: Registry) -> None:
    context, x = build(cases.chain(registry, 40, (200, 500)), 2).create_context(), ones(200, 500)
    wanted, interrupts, running = context.execute({"x": x})["y"].tobytes(), 0, False

    def interrupt(*_: Any) -> None:
        if running:  # a late signal would end the tests' process
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.linspace(0.0005, 0.01, 30):
            try:
                running = True
                signal.setitimer(signal.ITIMER_REAL, float(delay))
                for _ in range(1000):
                    context.execute({"x": x})
                running = False
            except KeyboardInterrupt:
                running = False
                interrupts += 1
            assert context.execute({"x": x})["y"].tobytes() == wanted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts


def test_the_environment_decides_threads_and_cores(
    build: Build, cases: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, x = build(cases.chain(registry, 6, SHAPE), 1), ones(*SHAPE)
    monkeypatch.setenv("TENONRT_NUM_THREADS", "11")
    monkeypatch.setenv("TENONRT_AFFINITY", ",".join(map(str, sorted(os.sched_getaffinity(0)))))
    before = threading.active_count()
    context = engine.create_context()
    assert context.execute({"x": x})["y"].tobytes() == cases.expected(x, 6).tobytes()
    assert threading.active_count() == before + 10
    monkeypatch.setenv("TENONRT_NUM_THREADS", "many")
    with pytest.raises(ExecutionError, match="TENONRT_NUM_THREADS is 'many'; it must be a number of threads"):
        engine.create_context()
    monkeypatch.setenv("TENONRT_NUM_THREADS", "12")
    monkeypatch.setenv("TENONRT_AFFINITY", "0,9999")
    with pytest.raises(ExecutionError, match="TENONRT_AFFINITY is '0,9999'; it must list cores"):
        engine.create_context().execute({"x": x})


def test_a_context_refuses_a_second_thread(build: Build, cases: Any, registry: Registry) -> None:
    context, x = build(cases.chain(registry, 3, SHAPE), 1).create_context(), ones(*SHAPE)
    seen: list[BaseException] = []

    def again(name: str, seconds: float) -> None:
        try:
            context.execute({"x": x})
        except ExecutionError as error:
            seen.append(error)

    context.profiler = again
    context.execute({"x": x})
    assert len(seen) == 3
    assert "one context per thread" in str(seen[0])
