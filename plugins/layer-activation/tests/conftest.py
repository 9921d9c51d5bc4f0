from __future__ import annotations

from tenonrt_testing.onnx_oracle import agrees, check_cases, oracle, rng

__all__ = ["agrees", "check_cases", "oracle", "rng"]
