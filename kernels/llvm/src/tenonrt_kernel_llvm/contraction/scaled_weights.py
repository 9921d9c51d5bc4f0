"""A 1x1 convolution of a gated image, with the gate in its weights: W (g * x) is (W g) x.

Large images have more elements than the weights: scaling these, once for each image, spares a pass over it, and all
orders of units stay possible.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenonrt.contracts import Code, Dimension, Problem

from tenonrt_kernel_llvm.contraction.direct_recipes import Recipe, recipes, weights_bytes
from tenonrt_kernel_llvm.contraction.direct_writer import DirectWriter, Work
from tenonrt_kernel_llvm.contraction.geometry import Geometry
from tenonrt_kernel_llvm.contraction.microkernel import BLOCK_BYTES, VECTOR
from tenonrt_kernel_llvm.emitter import Value
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.tails import Tail
from tenonrt_kernel_llvm.target import BLOCK, Target

PREFIX = "scaled-"
_MOST = 4  # tactics


def gate_of(problem: Problem, head: Tail) -> int | None:
    """The computed factor of each channel, where that is all there is before the convolution."""
    if len(head.layers) != 1 or head.layers[0].kind != "Elementwise" or head.layers[0].attrs.operation != "prod":
        return None
    gates = [number for number, spread in head.operands.items() if spread == "channel"]
    found = sorted(head.operands.values()) == ["channel", "full"] and gates[0] in problem.activations
    return gates[0] if found else None


def scaled_recipes(geometry: Geometry, target: Target) -> list[Recipe]:
    """The best guesses where weights are no more than what they are multiplied with."""
    if geometry.y.size * geometry.x.size < geometry.outputs:
        return []
    return [r for r in recipes(geometry, target) if r.order in ("c", "p") and not r.planes][:_MOST]


def workspace(geometry: Geometry, recipe: Recipe) -> Dimension:
    """Bytes of the scaled weights."""
    return geometry.batch * weights_bytes(geometry, recipe)


class ScaledWeightsWriter(DirectWriter):
    """Writes the code of one recipe. source, gate: the numbers of the activations."""

    def __init__(self, routine: Routine, geometry: Geometry, recipe: Recipe, source: int, gate: int) -> None:
        super().__init__(routine, geometry, recipe, source)
        self.gate = routine.inputs[routine.problem.activations.index(gate)]

    def code(self) -> Code:
        blocks = -(-self.geometry.channels // BLOCK)

        def unit(number: Value) -> None:
            rest, block = number // blocks, number % blocks
            self._scale(rest // self.groups, rest % self.groups, block)

        self.routine.phase(self.geometry.batch * (self.groups * blocks), unit)
        return super().code()

    def work(self, image: Value, group: Value) -> Work:
        found = super().work(image, group)
        return Work(image, group, found.source, self._scaled(image, group), found.depth)

    def _scaled(self, image: Value, group: Value) -> Value:
        """Where the weights of a group of blocks are for an image."""
        number = image * self.groups + group
        return self.fn.offset(self.routine.workspace, number * self.weights_bytes())

    def _scale(self, image: Value, group: Value, block: Value) -> None:
        """The weights of a block of input channels."""
        fn, row = self.fn, self.recipe.tile.blocks * BLOCK_BYTES
        source, target = fn.offset(self.weights, group * self.weights_bytes()), self._scaled(image, group)
        each = self.gate.type.shape[0] != 1  # or one gate for all images
        gates = fn.offset(self.gate.pointer, image * self.gate.strides[0]) if each else self.gate.pointer

        def channel(number: Value, _: list[Value]) -> Sequence[Value]:
            factor = fn.splat(fn.load("float", fn.offset(gates, number * 4)), BLOCK)
            for at in range(0, row, BLOCK_BYTES):
                begin = number * row + at
                fn.store(fn.load(VECTOR, fn.offset(source, begin)) * factor, fn.offset(target, begin))
            return ()

        first = block * BLOCK
        fn.loop(first, fn.minimum(first + BLOCK, self.geometry.channels), channel)
