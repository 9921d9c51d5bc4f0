"""A nested graph of a model, as mappings see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenonrt.contracts import GraphBuilder, Tensor, TensorType


@dataclass(frozen=True)
class NestedGraph:
    """The body of an If, Loop or Scan; satisfies `tenonrt.contracts.SourceGraph`."""

    name: str
    depth: int  # of graphs around it, 1 in the main graph
    declared: tuple[bool, ...]  # for each input, whether the model gives its shape
    translate: Callable[[GraphBuilder, Sequence[TensorType]], list[Tensor]]
    translate_inline: Callable[[GraphBuilder], list[Tensor]]

    def build(self, builder: GraphBuilder, types: Sequence[TensorType] = ()) -> list[Tensor]:
        """Translate it into a builder made by `GraphBuilder.subgraph`; returns its outputs.

        ``types`` stand in for the types of inputs that the model does not declare (it need not, for Loop and Scan).
        Translated again, with other types into another builder, its layers have the same names.
        """
        return self.translate(builder, types)

    def inline(self, builder: GraphBuilder) -> list[Tensor]:
        """Translate a graph without inputs into the builder of the graph around it; returns its outputs."""
        return self.translate_inline(builder)
