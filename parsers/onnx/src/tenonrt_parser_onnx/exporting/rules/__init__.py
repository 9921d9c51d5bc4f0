"""How each kind of layer is said in ONNX: a rule writes the nodes whose last ones give the layer's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tenonrt.contracts import Layer

from tenonrt_parser_onnx.exporting.node import Writer
from tenonrt_parser_onnx.exporting.rules import control, custom, moving, pointwise, reducing, windows

Rule = Callable[[Writer], None]
RULES: Mapping[str, Rule] = {
    **pointwise.RULES,
    **windows.RULES,
    **moving.RULES,
    **reducing.RULES,
    **control.RULES,
    **custom.RULES,
}


def rule_of(layer: Layer) -> Rule:
    """Kinds that are not standard become operators of another domain."""
    return RULES.get(layer.kind, custom.custom)
