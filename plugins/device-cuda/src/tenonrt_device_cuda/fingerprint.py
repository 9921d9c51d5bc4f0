"""What must be equal for measured times to carry over to another machine."""

from __future__ import annotations

from tenonrt_device_cuda.library import cupy
from tenonrt_device_cuda.management import clock_limits


def fingerprint() -> dict[str, str]:
    """Model, architecture, size, versions of the driver and of CUDA, and the clocks the GPU may reach."""
    runtime = cupy().cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    return {
        "kind": "cuda",
        "machine": f"sm_{properties['major']}{properties['minor']}",
        "model": properties["name"].decode(),
        "features": f"sm_{properties['major']}{properties['minor']}",
        "multiprocessors": str(properties["multiProcessorCount"]),
        "memory": str(properties["totalGlobalMem"] >> 30) + " GiB",
        "driver": str(runtime.driverGetVersion()),
        "runtime": str(runtime.runtimeGetVersion()),
        "clocks": clock_limits(),
    }
