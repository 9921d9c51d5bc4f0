"""The product of all steps' inputs with a recurrent layer's weights, as a problem of this pack's products.

Its columns are [directions, units, four gates], so that a thread reads the gates of a unit at once. Units are padded to
those that the blocks of a cluster have.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace
from tenonrt.contracts import Problem, ProblemInput, ProblemLayer, Tactic, TensorType

from tenonrt_kernel_nvrtc.kernel import CudaKernel
from tenonrt_kernel_nvrtc.products.direct import DirectKernel
from tenonrt_kernel_nvrtc.products.mapped import MappedProductKernel
from tenonrt_kernel_nvrtc.products.product import ProductKernel
from tenonrt_kernel_nvrtc.recurrent.problem import Recurrence
from tenonrt_kernel_nvrtc.storage import Narrow, shape_of

# The last takes what is no multiple of eight.
KERNELS: dict[str, CudaKernel] = {
    "product": ProductKernel(), "mapped": MappedProductKernel(), "direct": DirectKernel(),
}  # fmt: skip
_EACH = 1  # tactics of each kernel: the product is short beside the steps, and estimates are close


@dataclass(frozen=True)
class Projection:
    """A tactic of one of the two kernels of products."""

    kernel: str
    tactic: Tactic
    seconds: float

    @property
    def key(self) -> str:
        return f"{self.kernel} {shape_of(self.tactic)}"


def product_problem(r: Recurrence, units: int) -> Problem:
    """[rows, features] times [columns, features], and a bias; ``units`` of each direction, with padding."""
    columns = 4 * units * r.directions
    types = tuple(
        TensorType(shape) for shape in ((r.rows, r.features), (columns, r.features), (columns,), (r.rows, columns))
    )
    inputs = (ProblemInput("activation"), ProblemInput("constant"), ProblemInput("constant"))
    return Problem((ProblemLayer("FullyConnected", None, (0, 1, 2), (3,)),), inputs, types, (3,), "cuda")


def projections(problem: Problem, narrow: Narrow) -> list[Projection]:
    """The most promising tactics of each kernel of products."""
    found = list[Projection]()
    for name, kernel in KERNELS.items():
        made = [Projection(name, t, kernel.estimate(problem, t) or 0.0) for t in _offered(kernel, problem, narrow)]
        found += sorted(made, key=lambda p: p.seconds)[:_EACH]
    return sorted(found, key=lambda p: p.seconds)


def projection(problem: Problem, key: str, narrow: Narrow) -> Projection:
    """The tactic of this key, which need not be among those that are worth trying."""
    name, _, of = key.partition(" ")
    kernel = KERNELS[name]
    offered = _offered(kernel, problem, narrow)
    found = next((t for t in offered if shape_of(t) == of), None)
    tactic = found or replace(offered[0], key=narrow.key(of))
    return Projection(name, tactic, kernel.estimate(problem, tactic) or 0.0)


def _offered(kernel: CudaKernel, problem: Problem, narrow: Narrow) -> list[Tactic]:
    if not kernel.supports(problem).ok:
        return []
    return [tactic for tactic in kernel.offers(problem, [narrow]) if tactic.precision == narrow.dtype]
