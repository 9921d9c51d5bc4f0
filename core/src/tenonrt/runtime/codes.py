"""Code compiled while running, for sizes that a plan has no code for: shared by the contexts of an engine, bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from tenonrt.problem import Code

# A large network has about thirty distinct steps, and a code some tens of KB: enough for thirty shapes, below 100 MB.
_MOST_CODES = 1024


class CodeCache:
    """The latest codes by kernel, problem and tactic."""

    def __init__(self, most: int = _MOST_CODES) -> None:
        self._most = most
        self._codes: OrderedDict[bytes, Code] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._codes)

    def find(self, kernel: str, wanted: Code, compile: Callable[[], Code]) -> Code:
        """``wanted`` compiled. Two threads may compile the same at once: waiting would not be faster."""
        key = msgspec.msgpack.encode((kernel, wanted))
        with self._lock:
            if key in self._codes:
                self._codes.move_to_end(key)
                return self._codes[key]
        code = compile()
        with self._lock:
            self._codes[key] = code
            while len(self._codes) > self._most:
                self._codes.popitem(last=False)
        return code
