"""A mapping of a malformed name and two parameters, in a module that imports a heavy library."""

from __future__ import annotations

from typing import Any

import onnx


def mapping(builder: Any, node: Any) -> Any:
    return onnx
