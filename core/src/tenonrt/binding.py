"""From a code and its packed weights to something that can be launched: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import Device, Executable, Kernel, NativeCall
from tenonrt.layout import ALIGNMENT
from tenonrt.problem import Code
from tenonrt.types import Array


def bind_code(
    code: Code, packed: Sequence[Array], device: Device, kernel: Callable[[], Kernel]
) -> Executable | NativeCall:
    """Native code is the device's to load; ``kernel``, whose distribution need not be installed, is asked otherwise."""
    return device.load(code, packed) if code.native is not None else kernel().bind(code, packed)


def aligned(packed: Sequence[Array]) -> bool:
    """Whether packed weights lie where native code wants them."""
    return all(array.ctypes.data % ALIGNMENT == 0 for array in packed)
