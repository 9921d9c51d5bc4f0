"""Products of scaled images without a GPU: which regions they are, what they refuse, and that their source compiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenonrt
from nvrtc_emulation import problem_of
from tenonrt.contracts import Problem, UnsupportedError
from tenonrt_kernel_nvrtc.compiler import compile_cubin, library
from tenonrt_kernel_nvrtc.products.gated import GatedProductKernel, gated
from tenonrt_kernel_nvrtc.products.problem import geometry
from tenonrt_kernel_nvrtc.storage import prelude


def weights(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def scaled(net: tenonrt.Network, shape: tuple[int, ...], made: int, flipped: bool = False, **changes: Any) -> Any:
    """changes: the factors' shape, the operation, the window, a second reader."""
    x, factors = net.add_input("x", shape), net.add_input("f", changes.get("factors", (*shape[:2], 1, 1)))
    pair = (factors, x) if flipped else (x, factors)
    y = net.add_elementwise(*pair, operation=changes.get("operation", "prod"))
    window = changes.get("window", 1)
    z = net.add_convolution(y, weights(made, shape[1], window, window), weights(made, 1)[:, 0])
    z = net.add_elementwise(z, net.add_input("r", tuple(z.type.shape)), operation="sum")
    return [z, y] if changes.get("reader") else z


def posed(*args: Any, **changes: Any) -> Problem:
    return problem_of(lambda net: scaled(net, *args, **changes))


@pytest.mark.parametrize("flipped", [False, True])
def test_the_product_reads_the_image_itself(flipped: bool) -> None:
    problem = posed((2, 24, 5, 6), 16, flipped)
    found = gated(problem)
    assert not isinstance(found, str)
    assert found.plain.kinds == ("Convolution", "Elementwise")
    assert problem.types[found.image].concrete({}) == (2, 24, 5, 6)
    assert found.plain.layer.inputs[0] == found.image
    assert geometry(found.plain).m == 60
    kernel = GatedProductKernel()
    assert kernel.supports(problem).ok
    place = problem.activations.index(found.factors)
    assert all(place not in tactic.reads_strided for tactic in kernel.tactics(problem))


def test_its_regions_begin_with_what_scales() -> None:
    net = tenonrt.Network("scaled")
    net.mark_output(scaled(net, (1, 16, 4, 4), 8), "y")
    scaling, product, added = net.graph.layers
    regions = [tuple(region) for region in GatedProductKernel().regions(net.graph, product)]
    assert regions == [(scaling, product), (scaling, product, added)]
    assert not list(GatedProductKernel().regions(net.graph, scaling))


@pytest.mark.parametrize("changes", [
    {"factors": (1, 16, 1, 1)}, {"factors": (2, 16, 4, 4)}, {"operation": "sum"}, {"window": 3}, {"reader": True},
], ids=str)  # fmt: skip
def test_what_it_does_not_take(changes: dict[str, Any]) -> None:
    assert not GatedProductKernel().supports(posed((2, 16, 4, 4), 8, **changes)).ok


def test_it_compiles_for_hopper() -> None:
    try:
        library()
    except UnsupportedError as error:
        pytest.skip(str(error))
    kernel, problem = GatedProductKernel(), posed((2, 1152, 7, 7), 192)
    for tactic in kernel.tactics(problem)[:3]:
        source, _ = kernel.generate(problem, tactic)
        assert "scale(stage)" in source
        assert compile_cubin(prelude(tactic) + source, "sm_90a").startswith(b"\x7fELF")
