"""Engines on a GPU: plans in another process, several contexts and streams, memory, and that nothing waits."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tenonrt

RUNS = 1000


def network() -> Any:
    rng, net = np.random.default_rng(0), tenonrt.Network("small")
    x = net.add_input("x", (2, 8, 24, 24))
    for channels, inner in ((32, 8), (32, 32), (16, 32)):
        w = (rng.standard_normal((channels, inner, 3, 3)) / np.sqrt(9 * inner)).astype(np.float32)
        x = net.add_convolution(x, w, np.zeros(channels, np.float32), pre_padding=(1, 1), post_padding=(1, 1))
        x = net.add_activation(x, function="relu")
    net.mark_output(x, "y")
    return net


def drawn(seed: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(seed).standard_normal((2, 8, 24, 24)).astype(np.float32)}


@pytest.fixture(scope="module")
def engine() -> Any:
    return tenonrt.compile(network(), device="cuda", precision="float16")


def test_close_to_the_exact_values(engine: Any) -> None:
    exact = tenonrt.compile(network(), optimization_level=0).create_context().execute(drawn(0))["y"]
    found = engine.create_context().execute(drawn(0))["y"]
    assert np.abs(found - exact).max() < 5e-3 * np.abs(exact).max()


def test_a_plan_in_another_process(engine: Any, tmp_path: Path) -> None:
    engine.save(tmp_path / "small.plan")
    np.save(tmp_path / "x.npy", drawn(0)["x"])
    code = (
        "import sys, numpy as np; from tenonrt import Engine\n"
        "e = Engine.load(sys.argv[1] + '/small.plan')\n"
        "y = e.create_context().execute({'x': np.load(sys.argv[1] + '/x.npy')})['y']\n"
        "assert not [m for m in sys.modules if m.startswith('tenonrt.builder.tun')], 'it tuned'\n"
        "np.save(sys.argv[1] + '/y.npy', y)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), engine.create_context().execute(drawn(0))["y"])


def test_four_contexts_on_four_streams(engine: Any) -> None:
    import cupy

    expected = [engine.create_context().execute(drawn(seed))["y"] for seed in range(4)]
    failures: list[str] = []

    def work(seed: int) -> None:
        context, stream = engine.create_context(), cupy.cuda.Stream(non_blocking=True)
        x = cupy.asarray(drawn(seed)["x"])
        cupy.cuda.get_current_stream().synchronize()
        wrong = cupy.zeros((), cupy.int64)
        right = cupy.asarray(expected[seed])
        cupy.cuda.get_current_stream().synchronize()
        for _ in range(RUNS):
            y = context.enqueue({"x": x}, stream)["y"]
            with stream:
                wrong += (y != right).any()
        stream.synchronize()
        if int(wrong):
            failures.append(f"context {seed}: {int(wrong)} of {RUNS} runs differ")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_a_contexts_own_stream_waits_for_what_makes_its_inputs(engine: Any) -> None:
    import cupy

    code = 'extern "C" __global__ void spin(long long n) { for (long long s = clock64(); clock64() - s < n;) {} }'
    spin, context, x = cupy.RawKernel(code, "spin"), engine.create_context(), cupy.asarray(drawn(0)["x"])
    expected = context.execute(drawn(0))["y"]
    x *= 2  # loads what is used below
    for number in range(3):  # the steps one by one, then as a graph
        x.fill(number)
        context.enqueue({"x": x})
        spin((1,), (1,), (np.int64(200_000_000),))
        x.set(drawn(0)["x"], stream=cupy.cuda.get_current_stream())
        found = context.enqueue({"x": x})["y"]
        context.synchronize()
        np.testing.assert_array_equal(cupy.asnumpy(found), expected)


def test_memory_does_not_grow(engine: Any) -> None:
    """Of the whole GPU, as the driver counts: what others take meanwhile makes a try void, a leak makes all."""
    import cupy

    context = engine.create_context()

    def used() -> int:
        for _ in range(100):
            context.enqueue()
        context.synchronize()
        free, total = cupy.cuda.runtime.memGetInfo()
        return int(total - free)

    def grown() -> int:
        before = used()
        for _ in range(100):
            after = used()
        return after - before

    assert any(grown() <= 0 for _ in range(10))


def test_enqueue_does_not_wait(engine: Any) -> None:
    """Behind a kernel that runs until it is told to end, which happens after enqueue has returned."""
    import cupy

    spin = cupy.RawKernel('extern "C" __global__ void spin(volatile int *end) { while (!*end) {} }', "spin")
    flag = np.frombuffer(cupy.cuda.alloc_pinned_memory(4), np.int32, 1)
    stream, context = cupy.cuda.Stream(non_blocking=True), engine.create_context()
    x = cupy.asarray(drawn(0)["x"])
    for _ in range(2):  # the first run records its graph
        context.enqueue({"x": x}, stream)
    flag[0] = 1
    with stream:
        spin((1,), (1,), (np.uint64(flag.ctypes.data),))
    stream.synchronize()
    flag[0] = 0
    with stream:
        spin((1,), (1,), (np.uint64(flag.ctypes.data),))
    timer = threading.Timer(30.0, lambda: flag.__setitem__(0, 1))  # a wait then fails instead of never ending
    timer.start()
    context.enqueue({"x": x}, stream)
    returned_first = not stream.done
    flag[0] = 1
    timer.cancel()
    stream.synchronize()
    assert returned_first
