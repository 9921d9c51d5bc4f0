"""Codes and weights on their way into a plan, each stored once."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np

from tenonrt.problem import Code
from tenonrt.types import Array


@dataclass
class Constants:
    """Codes and weights shared by a program and its sub-programs."""

    codes: list[Code] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    _code_index: dict[bytes, int] = field(default_factory=dict)
    _weight_index: dict[tuple[int, str, tuple[int, ...], str], int] = field(default_factory=dict)

    def add_code(self, code: Code) -> int:
        key = msgspec.msgpack.encode(code)
        if key not in self._code_index:
            self._code_index[key] = len(self.codes)
            self.codes.append(code)
        return self._code_index[key]

    def add_weight(self, array: Array) -> int:
        """Arrays that share memory and shape are stored once."""
        array = array if array.dtype.hasobject else np.ascontiguousarray(array).reshape(array.shape)
        key = (array.__array_interface__["data"][0], str(array.dtype), array.shape, str(array.strides))
        if key not in self._weight_index or array.size == 0:
            self._weight_index[key] = len(self.weights)
            self.weights.append(array)
        return self._weight_index[key]
