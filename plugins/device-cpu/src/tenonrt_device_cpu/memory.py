"""Machine code in memory: copied into anonymous pages, which are then made executable and never writable again."""

from __future__ import annotations

import ctypes
import mmap
import os
from threading import Lock
from weakref import WeakValueDictionary

from tenonrt.contracts import ExecutionError


class MappedCode:
    """The pages of one blob. The machine code is there as long as this object is."""

    def __init__(self, blob: bytes) -> None:
        if not blob:
            raise ExecutionError("native code without a single byte cannot be loaded; build the plan again")
        # Private: shared pages would be one more name under which the code could be written.
        self._pages = mmap.mmap(-1, len(blob), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
        self._pages.write(blob)
        self._first = ctypes.c_char.from_buffer(self._pages)  # while it lives, the pages cannot be unmapped
        self.address = ctypes.addressof(self._first)
        # Where instructions are cached apart from data (ARM), the kernel brings them up to date on this call.
        if _mprotect()(self.address, len(blob), mmap.PROT_READ | mmap.PROT_EXEC):
            raise ExecutionError(
                f"the system does not let this process run code from memory ({os.strerror(ctypes.get_errno())}); allow "
                f"it (SELinux: execmem), or build the plan with kernels that are libraries of their own"
            )


_mapped: WeakValueDictionary[bytes, MappedCode] = WeakValueDictionary()
_lock = Lock()


def mapped(blob: bytes) -> MappedCode:
    """The pages of a blob, one set for all who hold them in this process."""
    with _lock:
        found = _mapped.get(blob)
        if found is None:
            found = _mapped[blob] = MappedCode(blob)
        return found


def _new_lock() -> None:
    """A forked child keeps the pages, but a thread that it lost may have held the lock."""
    global _lock  # noqa: PLW0603 - there is one per process, as of the pages
    _lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _mprotect() -> ctypes._NamedFuncPointer:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
