from __future__ import annotations

from tenonrt_testing.onnx_oracle import no_graphs, oracle

__all__ = ["no_graphs", "oracle"]
