"""The ONNX operator acme::Swish6 as layers. A mapping sees plain values and imports no format library."""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import GraphBuilder, SourceNode, Tensor


def swish6(builder: GraphBuilder, node: SourceNode, inputs: Sequence[Tensor | None]) -> Sequence[Tensor]:
    """One layer of the same name; ``beta`` is optional in the model too."""
    return builder.add("acme.Swish6", inputs, {"beta": float(node.attrs.get("beta", 6.0))})
