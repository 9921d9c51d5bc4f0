"""Memory, copies and the fingerprint of the CPU device."""

from __future__ import annotations

import platform

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tenonrt.contracts import Device, ExecutionError
from tenonrt_device_cpu.device import CpuDevice
from tenonrt_device_cpu.fingerprint import _described


def test_fingerprint_describes_this_machine() -> None:
    found = CpuDevice().fingerprint()
    assert isinstance(CpuDevice(), Device)
    assert found["kind"] == "cpu"
    assert found["machine"] == platform.machine()
    assert found["os"] == platform.system()
    assert int(found["cores"]) >= 1
    assert found["model"]
    assert all(isinstance(v, str) for v in found.values())
    assert found == CpuDevice().fingerprint()


def test_cpuinfo_is_read_for_the_first_processor_only(tmp_path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nmodel name\t: Fast: 9\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nmodel name\t: Slow\n"
    )
    assert _described(file) == {"processor": "0", "model name": "Fast: 9", "flags": "fpu avx2"}
    assert _described(tmp_path / "absent") == {}


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 1000, 1 << 20])
def test_allocated_memory_is_aligned_and_zero(nbytes: int) -> None:
    buffer = CpuDevice().allocate(nbytes)
    assert buffer.shape == (nbytes,)
    assert buffer.dtype == np.uint8
    assert not buffer.any()
    assert nbytes == 0 or buffer.ctypes.data % 64 == 0


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(d) for d in ("f4", "i8", "?", "u1")] + [np.dtype(ml_dtypes.bfloat16)]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=st.sampled_from([0, 1]),
    )
)
def test_upload_and_download_round_trip(values: np.ndarray) -> None:
    device = CpuDevice()
    buffer = device.allocate(values.nbytes + 3)
    device.upload(values.T, buffer)  # a view that is not contiguous
    back = np.zeros_like(values).T
    device.download(buffer, back)
    assert np.array_equal(back.astype(np.float64), values.T.astype(np.float64))
    assert buffer[: values.nbytes].tobytes() == values.T.tobytes()
    assert not buffer[values.nbytes :].any()


def test_copies_that_cannot_work_are_refused() -> None:
    device = CpuDevice()
    with pytest.raises(ExecutionError, match="8 bytes cannot hold"):
        device.upload(np.zeros(3, np.float32), device.allocate(8))
    with pytest.raises(ExecutionError, match="strings"):
        device.upload(np.array(["a"], object), device.allocate(8))
