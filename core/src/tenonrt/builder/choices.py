"""What a cover chose, in terms of the graph: the input of lowering."""

from __future__ import annotations

from dataclasses import dataclass

from tenonrt.builder.regions import PosedProblem
from tenonrt.contracts import Kernel, Part
from tenonrt.graph.graph import Layer, Tensor
from tenonrt.plan.program import Program
from tenonrt.problem import Code, Tactic
from tenonrt.types import LINEAR, Format


@dataclass(frozen=True)
class SliceOf:
    """Storage of a tensor as one part of the whole tensor of a view layer, both in one format."""

    layer: int  # the position of the view layer
    index: int  # which of its parts
    format: Format = LINEAR

    def __str__(self) -> str:
        return f"part {self.index} of layer {self.layer}" + ("" if self.format == LINEAR else f" {self.format}")


def format_of(storage: object) -> Format:
    """How the bytes of a storage are laid out."""
    if isinstance(storage, SliceOf):
        return storage.format
    return storage if isinstance(storage, Format) else LINEAR


@dataclass(frozen=True, eq=False)
class KernelChoice:
    """A region computed by a kernel's tactic. storages: per Problem.outputs, where they are written."""

    posed: PosedProblem
    kernel_id: str
    kernel: Kernel
    tactic: Tactic
    specialise: bool
    code: Code
    reads: tuple[object, ...]
    writes: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class ViewChoice:
    """A layer that moves nothing: parts as in `View`, per input or per output."""

    layer: Layer
    whole: str
    parts: tuple[Part, ...] | None
    writes: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class ControlChoice:
    """A layer that owns subgraphs, each lowered to a program."""

    layer: Layer
    programs: tuple[Program, ...]


@dataclass(frozen=True, eq=False)
class ReformatChoice:
    """A tensor stored anew in another storage, by a kernel for the `Reformat` layer."""

    tensor: Tensor
    source: object
    target: object
    posed: PosedProblem
    kernel_id: str
    kernel: Kernel
    code: Code


Chosen = KernelChoice | ViewChoice | ControlChoice
