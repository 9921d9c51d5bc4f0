from __future__ import annotations

from tenonrt_testing.onnx_oracle import agrees, oracle

__all__ = ["agrees", "oracle"]
