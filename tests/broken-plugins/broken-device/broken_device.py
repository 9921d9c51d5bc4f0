"""A device that hands out misaligned memory and names no step that fails."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from tenonrt.contracts import Array, Device, Executable, Launch, Runnable


class BrokenDevice(Device):
    def fingerprint(self) -> dict[str, str]:
        return {"kind": "broken"}

    def allocate(self, nbytes: int) -> Any:
        raw = np.zeros(nbytes + 128, np.uint8)
        start = -raw.ctypes.data % 64 + 4
        return raw[start : start + nbytes]

    def upload(self, host: Array, buffer: Any) -> None:
        buffer.reshape(-1).view(np.uint8)[: host.nbytes].view(host.dtype).reshape(host.shape)[...] = host

    def download(self, buffer: Any, host: Array) -> None:
        host[...] = buffer.reshape(-1).view(np.uint8)[: host.nbytes].view(host.dtype).reshape(host.shape)

    def bind(self, launches: Sequence[Launch], threads: int) -> Runnable:
        return Line(launches)


class Line:
    def __init__(self, launches: Sequence[Launch]) -> None:
        self.launches = launches

    def run(self, stream: Any | None) -> None:
        self.time(stream)

    def time(self, stream: Any | None) -> list[float]:
        return [self.step(launch) for launch in self.launches]

    def step(self, launch: Launch) -> float:
        assert isinstance(launch.executable, Executable)
        start = perf_counter()
        launch.executable.launch(launch.inputs, launch.outputs, launch.workspace, None)
        return perf_counter() - start
