"""LSTM and GRU: the product of all inputs, then all steps in one kernel whose clusters keep the recurrent weights.

Kernels of one tactic: the first leaves what it projected in the workspace, in 16 bits; the last loads its
weights while that runs. For a stack of layers one more makes what its clusters tell each other by all ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np
from msgspec.structs import replace
from tenonrt.contracts import (
    LINEAR,
    Array,
    Code,
    Executable,
    Format,
    GraphView,
    Layer,
    Problem,
    Tactic,
    Weights,
    is_float,
)

from tenonrt_kernel_nvrtc.compiler import compile_cubin
from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.loading import Launched, architecture
from tenonrt_kernel_nvrtc.recurrent.packing import between, fragments, packed_inputs
from tenonrt_kernel_nvrtc.recurrent.problem import Recurrence, recurrences, refuses, stacks
from tenonrt_kernel_nvrtc.recurrent.projection import KERNELS, Projection, product_problem, projection, projections
from tenonrt_kernel_nvrtc.recurrent.source import source
from tenonrt_kernel_nvrtc.recurrent.tiles import Tile, tiles
from tenonrt_kernel_nvrtc.storage import C_TYPES, Narrow, narrow_of, prelude

_STATES = ("lengths", "hidden", "cell")  # operands of the steps beside weights
_PRODUCT_CONSTANTS = 2  # packed arrays of the product
_FILL_BLOCKS, _FILL_THREADS = 132, 256


@dataclass(frozen=True)
class Room:
    """Of the workspace: what is projected for each layer, then what each but the last puts out; elements."""

    rows: int
    columns: int
    units: int
    layers: int

    @property
    def told(self) -> int:
        """Where what clusters tell each other begins: behind what the product makes."""
        return self.rows * self.columns

    @property
    def hiddens(self) -> int:
        return self.layers * self.told

    @property
    def size(self) -> int:
        return self.hiddens + (self.layers - 1) * self.rows * self.units


def room(layers: Sequence[Recurrence], tile: Tile) -> Room:
    """What a tile needs."""
    r = layers[0]
    return Room(r.rows, r.directions * 4 * tile.all_units, tile.all_units, len(layers))


class RecurrentKernel(CudaKernel):
    """Stored in 16 bits; sums, gates and cells in single precision."""

    begins_itself: ClassVar[bool] = True

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        return stacks(view, layer)

    def refuses(self, problem: Problem) -> str:
        if architecture() != "sm_90a":
            return f"{architecture()} has no clusters of 16 blocks and wgmma"
        why = refuses(problem)
        if why:
            return why
        first, *others = recurrences(problem)
        if not tiles(first):
            return f"{first.hidden} units, more than the threads of a cluster have registers for"
        return "" if tiles(first, 1 + len(others)) else "a stack that needs more clusters than run at once"

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        """Results in 16 bits; with the best product in single precision too."""
        layers, made = recurrences(problem), list[Tactic]()
        for kind in narrow:
            for tile in tiles(layers[0], len(layers)):
                found = projections(product_problem(layers[0], tile.all_units), kind)
                made += [_tactic(problem, layers, tile, found[0], kind, kind.rows)]
                made += [_tactic(problem, layers, tile, found[0], kind, LINEAR)]
                made += [_tactic(problem, layers, tile, projected, kind, kind.rows) for projected in found[1:]]
        return made

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        layers = recurrences(problem)
        tile, projected = parsed(layers[0], tactic)
        return tile.seconds(layers[0], len(layers)) + projected.seconds

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        """Of the steps; the product is `KERNELS`' own."""
        layers = recurrences(problem)
        tile, _ = parsed(layers[0], tactic)
        formats = _formats(problem, tactic, layers)
        parameters = [f"{'' if name[0] == 'y' else 'const '}{type} *{name}" for name, type in formats.items()]
        if len(layers) > 1:
            parameters = [p.removeprefix("const ") if p.endswith(("projected", "hiddens")) else p for p in parameters]
        return source(layers, tile, formats, parameters), {
            "grid": (tile.clusters(layers[0], len(layers)) * tile.blocks,), "block": (tile.threads,),
            "shared": tile.shared,
        }  # fmt: skip

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        """All kernels' machine code, one behind the other: the product, the steps, what fills."""
        layers = recurrences(problem)
        tile, projected = parsed(layers[0], tactic)
        first = KERNELS[projected.kernel].compile(product_problem(layers[0], tile.all_units), projected.tactic)
        steps = super().compile(problem, tactic)
        parts = [first.blob, steps.blob]
        if len(layers) > 1:
            needed = room(layers, tile)
            parts.append(compile_cubin(prelude(tactic) + filling(needed.size - needed.told), architecture()))
        info = {"parts": [len(part) for part in parts], "product": first.info, "kernel": projected.kernel}
        return Code(problem, tactic, b"".join(parts), {**info, **steps.info, "blocks": tile.blocks})

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """What the product reads; all other weights as operands of ``mma``; biases between layers; constant states."""
        problem, layers = code.problem, recurrences(code.problem)
        tile, projected = parsed(layers[0], code.tactic)
        given = dict(zip(problem.constants, weights.constants, strict=True))
        first = KERNELS[projected.kernel].pack(
            Code(product_problem(layers[0], tile.all_units), projected.tactic),
            Weights(packed_inputs(layers[0], tile.all_units, given)),
        )
        operands, biases = between(layers, tile, given, narrow_of(code.tactic))
        states = [np.ascontiguousarray(given[i]) for i in _constants(problem, layers)]
        return [*first, fragments(tile, operands), *([biases] if len(layers) > 1 else []), *states]

    def packing(self, problem: Problem, tactic: Tactic) -> str:
        kernel, _, tile, *_ = tactic.key.split(" ")
        return narrow_of(tactic).key(f"{kernel} {tile}")

    def bind(self, code: Code, packed: Sequence[Any]) -> Executable:
        info, layers = code.info, recurrences(code.problem)
        tile, _ = parsed(layers[0], code.tactic)
        parts = [code.blob[a:b] for a, b in pairwise(accumulate(info["parts"], initial=0))]
        product = KERNELS[info["kernel"]].bind(
            replace(code, blob=parts[0], info=info["product"]), packed[:_PRODUCT_CONSTANTS]
        )
        steps = Launched(
            parts[1], packed[_PRODUCT_CONSTANTS:], info["grid"], info["block"], shared=info["shared"],
            early=info["early"], cluster=info["blocks"],
        )  # fmt: skip
        fill = Launched(parts[2], (), (_FILL_BLOCKS,), (_FILL_THREADS,), early=info["early"]) if parts[2:] else None
        source = code.problem.activations.index(layers[0].operands["input"])
        return _Steps(fill, product, steps, source, room(layers, tile))


@dataclass(frozen=True)
class _Steps:
    """What fills, the product, then the steps; ``source``: of the inputs, the sequences."""

    fill: Executable | None
    product: Executable
    steps: Executable
    source: int
    room: Room

    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        assert workspace is not None
        elements = workspace[: 2 * self.room.size].view(np.uint16)
        if self.fill is not None:
            self.fill.launch([], [elements[self.room.told :]], None, stream)
        projected = elements[: self.room.told].reshape(self.room.rows, self.room.columns)
        self.product.launch([inputs[self.source]], [projected], None, stream)
        others = [array for i, array in enumerate(inputs) if i != self.source]
        hiddens = [elements[self.room.hiddens :]] if self.fill is not None else []
        self.steps.launch([*others, projected, *hiddens], outputs, None, stream)


def filling(elements: int) -> str:
    """The source of a kernel that makes so many floats of 16 bits all ones."""
    return f"""
extern "C" __global__ void kernel(narrow_t *out) {{
    begin();
    for (int i = blockIdx.x * {_FILL_THREADS} + threadIdx.x; i < {elements // 8}; i += {_FILL_BLOCKS * _FILL_THREADS})
        ((uint4 *)out)[i] = make_uint4(~0u, ~0u, ~0u, ~0u);
}}
"""


def _tactic(
    problem: Problem, layers: Sequence[Recurrence], tile: Tile, projected: Projection, narrow: Narrow, stored: Format
) -> Tactic:
    """A key is the product's kernel and tile, the steps' tile, how results are stored, and the type of the others."""
    key = f"{projected.key} {tile.key} {'single' if stored == LINEAR else 'narrow'}"
    read = tuple(narrow.rows if is_float(problem.types[i].dtype) else LINEAR for i in problem.activations)
    results, workspace = (stored,) * len(problem.outputs), 2 * room(layers, tile).size
    return Tactic(narrow.key(key), read, results, narrow.dtype, workspace)


def parsed(r: Recurrence, tactic: Tactic) -> tuple[Tile, Projection]:
    """The tile of the steps, and the product."""
    kernel, of, tile, *_ = tactic.key.split(" ")
    found = Tile.parsed(tile)
    return found, projection(product_problem(r, found.all_units), f"{kernel} {of}", narrow_of(tactic))


def _constants(problem: Problem, layers: Sequence[Recurrence]) -> list[int]:
    """Operands of the steps that are packed: lengths and states, each once."""
    found = dict.fromkeys(r.operands[name] for r in layers for name in _STATES)
    return [i for i in found if i in problem.constants]


def _formats(problem: Problem, tactic: Tactic, layers: Sequence[Recurrence]) -> dict[str, str]:
    """The parameters' C types: results, activations but the sequences, what is in the workspace, what is packed."""

    def type_of(number: int, format: str | None) -> str:
        return "narrow_t" if format == tactic.precision else C_TYPES[format or problem.types[number].dtype]

    found = {f"y{i}": type_of(i, tactic.output_format(k).dtype) for k, i in enumerate(problem.outputs)}
    for k, number in enumerate(problem.activations):
        if number != layers[0].operands["input"]:
            found[f"x{number}"] = type_of(number, tactic.input_format(k).dtype)
    stack = len(layers) > 1
    found |= {"projected": "narrow_t", **({"hiddens": "narrow_t"} if stack else {}), "weights": "narrow_t"}
    found |= {"biases": "float"} if stack else {}
    return found | {f"x{number}": type_of(number, None) for number in _constants(problem, layers)}
