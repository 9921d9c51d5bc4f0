from __future__ import annotations

from tenonrt_testing.onnx_oracle import agrees

__all__ = ["agrees"]
