"""Devices: memory, copies, and straight lines of launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import Array, Device, ExecutionError, Launch
from tenonrt.plugins.discovery import Entry

from tenonrt_testing.subjects import instance

GROUP = "tenonrt.devices"


@pytest.fixture
def device(entry: Entry) -> Device:
    found: Device = instance(entry)
    try:
        found.fingerprint()
    except ExecutionError as error:
        pytest.skip(f"the device is not here: {error}")
    return found


class Add:
    """An executable for arrays of any library: output = input + amount."""

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        outputs[0][...] = inputs[0] * 2 + self.amount


class Raise:
    """An executable that fails."""

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        raise RuntimeError("on purpose")


def _floats(device: Device, values: Array) -> Any:
    """A device array of float32 holding values."""
    buffer = device.allocate(values.nbytes)
    device.upload(values, buffer)
    return buffer.view(np.float32).reshape(values.shape)


def _line(device: Device, amounts: Sequence[float]) -> tuple[list[Launch], Any]:
    """Launches that pass a tensor on: x -> 2 x + amount."""
    arrays = [_floats(device, np.zeros(5, np.float32)) for _ in range(len(amounts) + 1)]
    launches = [
        Launch(f"step {i}", Add(amount), (arrays[i],), (arrays[i + 1],), None, ()) for i, amount in enumerate(amounts)
    ]
    return launches, arrays[-1]


def _read(device: Device, array: Any) -> Array:
    host = np.empty(array.shape, np.float32)
    device.download(array, host)
    return host


def test_is_a_device(entry: Entry) -> None:
    """The entry point names a subclass of `Device`.

    When this fails: an abstract method is missing.
    """
    assert isinstance(instance(entry), Device)


def test_fingerprint_is_stable(device: Device) -> None:
    """The fingerprint is text by text, has "kind", and is the same when asked again.

    When this fails: something that changes (a clock, free memory) is in it, so that no cached time would ever be found.
    """
    first = device.fingerprint()
    assert first["kind"]
    assert {type(text) for pair in first.items() for text in pair} == {str}
    assert first == device.fingerprint()


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 100_003])
def test_allocate_gives_aligned_bytes(device: Device, nbytes: int) -> None:
    """A buffer is a 1-D uint8 array of the size asked for that starts at a multiple of 64.

    When this fails: allocate 64 bytes more and begin at the first multiple of 64.
    """
    buffer = device.allocate(nbytes)
    assert (buffer.shape, buffer.dtype) == ((nbytes,), np.uint8)
    address = buffer.ctypes.data if isinstance(buffer, np.ndarray) else buffer.data.ptr
    assert nbytes == 0 or address % 64 == 0


def test_buffers_are_distinct(device: Device) -> None:
    """Two buffers that are both referenced share no memory.

    When this fails: the allocator gives a block back while it is still referenced.
    """
    first, second = (_floats(device, np.full(100, value, np.float32)) for value in (1, 2))
    assert (_read(device, first) == 1).all()
    assert (_read(device, second) == 2).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int64", "bool", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5, 2)])
def test_upload_and_download_round_trip(device: Device, dtype: str, shape: tuple[int, ...]) -> None:
    """What was uploaded comes back, also when the host array is not contiguous.

    When this fails: bytes are copied in another order than the array's, or from a view's base.
    """
    values = np.arange(2 * int(np.prod(shape))).reshape(*shape[::-1], 2)[..., 0].T.astype(dtype)
    buffer = device.allocate(values.nbytes)
    device.upload(values, buffer)
    back = np.zeros(values.shape, values.dtype)
    device.download(buffer, back)
    np.testing.assert_array_equal(back, values)


def test_launches_run_in_order(device: Device) -> None:
    """A bound line runs its launches in order, each time it is run.

    When this fails: launches are reordered or start before the one before them has ended.
    """
    launches, result = _line(device, [1.0, 10.0, 100.0])
    runnable = device.bind(launches, 1)
    stream = device.stream()
    for _ in range(2):
        runnable.run(stream)
        device.synchronize(stream)
        assert (_read(device, result) == (1 * 2 + 10) * 2 + 100).all()


def test_empty_line_runs(device: Device) -> None:
    """A line without launches can be bound, run and timed.

    When this fails: a network whose outputs are its inputs has no steps.
    """
    runnable = device.bind([], 1)
    runnable.run(device.stream())
    assert list(runnable.time(device.stream())) == []


def test_time_has_one_value_per_step(device: Device) -> None:
    """`time` runs the line once and returns seconds, one for each launch.

    When this fails: native steps are timed as a group, or the unit is not the second.
    """
    launches, result = _line(device, [1.0, 10.0])
    seconds = device.bind(launches, 1).time(device.stream())
    assert len(seconds) == 2
    assert all(0 <= s < 60 for s in seconds)
    assert (_read(device, result) == 12).all()


def test_a_failing_step_is_named(device: Device) -> None:
    """An exception in an executable becomes an ExecutionError that names the step.

    When this fails: wrap what `launch` raises: ``raise ExecutionError(f"step {name!r} failed: ...") from error``.
    """
    launches, _ = _line(device, [1.0])
    broken = Launch("the broken one", Raise(), launches[0].inputs, launches[0].outputs, None, ())
    stream = device.stream()
    with pytest.raises(ExecutionError, match="the broken one"):
        device.bind([*launches, broken], 1).run(stream)
