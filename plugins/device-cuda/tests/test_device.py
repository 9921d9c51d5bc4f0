"""The device where there is no GPU says so; on one, what an application relies on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import ExecutionError
from tenonrt_device_cuda.device import CudaDevice
from tenonrt_device_cuda.line import LANES, Line, lanes_in_force


def present() -> bool:
    try:
        CudaDevice().fingerprint()
    except ExecutionError:
        return False
    return True


HERE = present()
needs_gpu = pytest.mark.skipif(not HERE, reason="there is no NVIDIA GPU")


@pytest.mark.skipif(HERE, reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_do() -> None:
    device = CudaDevice()
    for use in (device.fingerprint, device.stream, lambda: device.allocate(8)):
        with pytest.raises(ExecutionError, match=r"pip install|nvidia-smi"):
            use()


def test_lanes_are_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LANES, raising=False)
    assert lanes_in_force() == 4
    monkeypatch.setenv(LANES, "1")
    assert lanes_in_force() == 1
    monkeypatch.setenv(LANES, "many")
    with pytest.raises(ExecutionError, match="number from 1 to 16"):
        lanes_in_force()


def test_a_step_without_launch_is_named() -> None:
    from tenonrt.contracts import Launch

    with pytest.raises(ExecutionError, match="the odd one"):
        Line([Launch("the odd one", object(), (), (), None, ())])  # type: ignore[arg-type]


def engine() -> Any:
    net = tenonrt.Network("small")
    x = net.add_input("x", (4, 16, 8, 8))
    y = net.add_convolution(x, np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32))
    net.mark_output(net.add_activation(y, function="relu"), "y")
    return tenonrt.compile(net, device="cuda", precision="float16")


@pytest.mark.gpu
@needs_gpu
def test_contexts_on_streams_of_their_own() -> None:
    import cupy

    built = engine()
    contexts = [built.create_context() for _ in range(4)]
    inputs = [np.random.default_rng(i).standard_normal((4, 16, 8, 8)).astype(np.float32) for i in range(4)]
    expected = [c.execute({"x": x})["y"] for c, x in zip(contexts, inputs, strict=True)]
    failed: list[int] = []

    def work(number: int) -> None:
        stream, x = cupy.cuda.Stream(non_blocking=True), cupy.asarray(inputs[number])
        cupy.cuda.Device().synchronize()
        for _ in range(1000):
            found = contexts[number].enqueue({"x": x}, stream)["y"]
        stream.synchronize()
        if not np.array_equal(cupy.asnumpy(found), expected[number]):
            failed.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


class Copy:
    """An `Executable` that copies its input."""

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any, stream: Any) -> None:
        CudaDevice().copy(inputs[0], outputs[0], stream)


@pytest.mark.gpu
@needs_gpu
def test_a_line_waits_for_what_fills_its_buffers() -> None:
    """First runs fill buffers on the current stream; beside other processes that can take longer than a launch."""
    import cupy
    from tenonrt.contracts import Launch

    code = 'extern "C" __global__ void spin(long long n) { for (long long s = clock64(); clock64() - s < n;) {} }'
    spin = cupy.RawKernel(code, "spin")
    spin((1,), (1,), (np.int64(0),))  # loads it
    source, target = CudaDevice().allocate(1 << 20), CudaDevice().allocate(1 << 20)
    source[:], target[:] = 1, 0  # loads what fills
    line = Line([Launch("copy", Copy(), (source,), (target,), None, (), on_device=True)])
    for number, run in enumerate((line.run, line.run, line.time), 2):  # enqueued, then as a graph
        spin((1,), (1,), (np.int64(200_000_000),))
        source[:], target[:] = number, 0
        run(None)
        assert (cupy.asnumpy(target) == number).all()


@pytest.mark.gpu
@needs_gpu
def test_too_much_memory_leaves_the_allocator_usable() -> None:
    device = CudaDevice()
    with pytest.raises(ExecutionError, match="bytes left"):
        device.allocate(1 << 46)
    assert device.allocate(1 << 20).nbytes == 1 << 20
