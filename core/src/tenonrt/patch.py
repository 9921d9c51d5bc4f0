"""What a pass offers: layers to add and tensors to replace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from tenonrt.types import Array

if TYPE_CHECKING:
    from tenonrt.contracts import Attributes, Layer, Tensor


class NewTensor:
    """A tensor that a patch will create."""


PatchInput: TypeAlias = "Tensor | NewTensor | None"


@dataclass(frozen=True)
class NewLayer:
    """A layer that a patch will create."""

    kind: str
    inputs: tuple[PatchInput, ...]
    attrs: Mapping[str, Any] | Attributes
    outputs: tuple[NewTensor, ...]
    name: str | None


@dataclass
class Patch:
    """A proposed change. The core applies it whole or not at all, re-infers, verifies, and records the reason."""

    reason: str
    constants: list[tuple[NewTensor, Array]] = field(default_factory=list)
    layers: list[NewLayer] = field(default_factory=list)
    replacements: list[tuple[Tensor, Tensor | NewTensor]] = field(default_factory=list)
    removals: list[Layer] = field(default_factory=list)

    def constant(self, values: Array) -> NewTensor:
        tensor = NewTensor()
        self.constants.append((tensor, values))
        return tensor

    def add(
        self,
        kind: str,
        inputs: Sequence[PatchInput],
        attrs: Mapping[str, Any] | Attributes | None = None,
        *,
        outputs: int = 1,
        name: str | None = None,
    ) -> tuple[NewTensor, ...]:
        """Add a layer; ``name`` defaults to that of the layer whose output it replaces."""
        new = tuple(NewTensor() for _ in range(outputs))
        self.layers.append(NewLayer(kind, tuple(inputs), attrs or {}, new, name))
        return new

    def replace(self, old: Tensor, new: Tensor | NewTensor) -> None:
        """Readers of ``old`` read ``new``; layers that nobody needs any more disappear."""
        self.replacements.append((old, new))

    def remove(self, layer: Layer) -> None:
        """Remove a layer none of whose outputs is used."""
        self.removals.append(layer)
