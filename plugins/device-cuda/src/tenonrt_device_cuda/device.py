"""The device plugin: memory, streams, events, copies, and the way from launches to something that runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tenonrt.contracts import Array, Device, Launch, Runnable

from tenonrt_device_cuda import interchange, memory, racing
from tenonrt_device_cuda.fingerprint import fingerprint
from tenonrt_device_cuda.library import cupy
from tenonrt_device_cuda.line import Line

_DEVICE_TO_DEVICE = 3  # cudaMemcpyKind


class CudaDevice(Device):
    """The current NVIDIA GPU. Everything raises `ExecutionError` where CuPy or a GPU is missing."""

    races: ClassVar[bool] = True
    multiplies_unsigned: ClassVar[bool] = False  # cuDNN has no engine for uint8 on Hopper
    # bfloat16 is as fast as float16, which has three bits more; tf32 has as many and half of its speed.
    no_faster: ClassVar[frozenset[str]] = frozenset({"bfloat16", "tf32"})

    def __init__(self) -> None:
        self._surroundings: racing.Surroundings | None = None

    def fingerprint(self) -> dict[str, str]:
        return fingerprint()

    def allocate(self, nbytes: int) -> Any:
        """``nbytes`` zeroed bytes, 512-byte aligned."""
        return memory.allocate(nbytes)

    def upload(self, host: Array, buffer: Any) -> None:
        memory.upload(host, buffer)

    def download(self, buffer: Any, host: Array) -> None:
        memory.download(buffer, host)

    def place(self, weights: Array) -> Any:
        """A CuPy array of the same values."""
        buffer = memory.allocate(weights.nbytes)
        memory.upload(weights, buffer)
        return buffer.view(weights.dtype).reshape(weights.shape)

    def stream(self) -> Any:
        """A stream that no other waits for."""
        return cupy().cuda.Stream(non_blocking=True)

    def synchronize(self, stream: Any | None) -> None:
        if stream is None:
            cupy().cuda.runtime.deviceSynchronize()
        else:
            stream.synchronize()

    def follow_caller(self, stream: Any) -> None:
        interchange.follow_caller(stream)

    def bind(self, launches: Sequence[Launch], threads: int) -> Runnable:
        """``threads`` are the host's and mean nothing here."""
        return Line(launches)

    def adopt(self, array: Any) -> Any:
        """CuPy, PyTorch and JAX arrays of the GPU without a copy; anything else as NumPy's."""
        return interchange.adopt(array)

    def copy(self, source: Any, target: Any, stream: Any) -> None:
        cp = cupy()
        if not isinstance(source, cp.ndarray):
            target.set(source, stream=stream)
        elif source.flags.c_contiguous and target.flags.c_contiguous and source.dtype == target.dtype:
            if source.data.ptr != target.data.ptr:
                cp.cuda.runtime.memcpyAsync(
                    target.data.ptr, source.data.ptr, source.nbytes, _DEVICE_TO_DEVICE, stream.ptr
                )
        else:
            with stream:
                target[...] = source

    def wrap_stream(self, stream: Any) -> Any:
        return interchange.wrap_stream(stream)

    def record(self, event: Any, stream: Any) -> None:
        interchange.record(event, stream)

    def race(self, entrants: Sequence[Callable[[], Launch]]) -> list[float | Exception]:
        if self._surroundings is None:
            self._surroundings = racing.Surroundings()
        return racing.race(entrants, self._surroundings)
