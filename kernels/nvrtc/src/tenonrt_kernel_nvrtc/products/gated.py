"""Products of images whose channels are scaled first, by a factor for each channel of each image.

As in squeeze-and-excitation. The scaled image is never written: what a thread has copied into shared memory it
multiplies there, by factors that it has read while the products before were under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
from tenonrt.contracts import Array, Code, GraphView, Layer, Problem, Tactic, Weights, only_reader

from tenonrt_kernel_nvrtc.growing import product_regions
from tenonrt_kernel_nvrtc.products.problem import geometry
from tenonrt_kernel_nvrtc.products.product import TAIL, ProductKernel
from tenonrt_kernel_nvrtc.storage import Narrow


@dataclass(frozen=True)
class Gated:
    """The product without what scales its image, and the numbers of image and factors."""

    plain: Problem
    image: int
    factors: int


class GatedProductKernel(ProductKernel):
    """Convolutions of one element, of images [N, C, H, W] times factors [N, C, 1, 1]."""

    aggregates: ClassVar[bool] = False

    def regions(self, view: GraphView, layer: Layer) -> Iterable[Sequence[Layer]]:
        image = layer.inputs[0]
        scaling = view.producer(image) if image is not None else None
        if layer.kind != "Convolution" or image is None or scaling is None or scaling.kind != "Elementwise":
            return
        if only_reader(view, image) is layer:
            for region in product_regions(view, layer, TAIL):
                yield (scaling, *region)

    def refuses(self, problem: Problem) -> str:
        found = gated(problem)
        if isinstance(found, str):
            return found
        why = super().refuses(found.plain)
        return why or ("" if geometry(found.plain).whole else "windows of more than one element")

    def offers(self, problem: Problem, narrow: Sequence[Narrow]) -> Sequence[Tactic]:
        """Those of the product; factors lie as they are."""
        place = problem.activations.index(_checked(problem).factors)
        found = super().offers(_checked(problem).plain, narrow)
        strided = tuple(k for k in range(len(problem.activations)) if k != place)
        return [msgspec.structs.replace(tactic, reads_strided=strided) for tactic in found]

    def estimate(self, problem: Problem, tactic: Tactic) -> float | None:
        return super().estimate(_checked(problem).plain, tactic)

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        return super().pack(msgspec.structs.replace(code, problem=_checked(code.problem).plain), weights)

    def generate(self, problem: Problem, tactic: Tactic) -> tuple[str, dict[str, Any]]:
        found = _checked(problem)
        return self.written(found.plain, tactic, f"x{found.factors}")


def gated(problem: Problem) -> Gated | str:
    """The parts of a scaled product, or why it is none."""
    scaling, *rest = problem.layers
    if scaling.kind != "Elementwise" or scaling.attrs.operation != "prod" or not rest or rest[0].kind != "Convolution":
        return "no convolution of what is scaled"
    made, (a, b) = scaling.outputs[0], scaling.inputs
    if rest[0].inputs[0] != made or any(made in layer.inputs for layer in rest[1:]) or made in problem.outputs:
        return "another layer reads what is scaled"
    image, factors = (a, b) if problem.types[a].shape == problem.types[made].shape else (b, a)
    shape = problem.types[made].concrete({})
    fits = problem.types[image].concrete({}) == shape and len(shape) == 4
    if not fits or problem.types[factors].concrete({}) != (*shape[:2], 1, 1) or shape[2] * shape[3] == 1:
        return "no factor for each channel of each image"
    if not {image, factors} <= {*problem.activations} or problem.types[factors].dtype != "float32":
        return "an image or factors that are constant, or of another element type"
    if any(factors in layer.inputs or image in layer.inputs for layer in rest[1:]):
        return "the image or the factors are read again"
    first = msgspec.structs.replace(rest[0], inputs=(image, *rest[0].inputs[1:]))
    return Gated(msgspec.structs.replace(problem, layers=(first, *rest[1:])), image, factors)


def _checked(problem: Problem) -> Gated:
    found = gated(problem)
    assert not isinstance(found, str), found
    return found
