"""Arithmetic that doubles a dimension at every step is refused early; what real networks compute is not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tenonrt.dims import Dimension, DimensionLimitError, evaluate, maximum, product, symbol

N, M, K = symbol("n"), symbol("m"), symbol("k")


@pytest.mark.parametrize(
    "step",
    [
        lambda d: d * d,
        lambda d: d + d,
        lambda d: (2 * d + 1) // (d + M),
        lambda d: (2 * d + 1) % (d + M),
        lambda d: maximum(d * N - 3, d + M),
        lambda d: (d + 1) // 2,
    ],
    ids=["square", "double", "quotient", "remainder", "maximum", "halves"],
)
@pytest.mark.parametrize("start", [N, N + M + K], ids=str)
def test_growth_is_refused(step: Callable[[Dimension], Dimension], start: Dimension) -> None:
    started = time.monotonic()
    with pytest.raises(DimensionLimitError, match="fixed size"):
        repeated(step, start)
    assert time.monotonic() - started < 2


def repeated(step: Callable[[Dimension], Dimension], dimension: Dimension) -> Dimension:
    for _ in range(3000):
        dimension = step(dimension)
    return dimension


def test_what_networks_compute_is_allowed() -> None:
    halved: Dimension = N
    for _ in range(20):
        halved = (halved + 1) // 2
    assert evaluate(halved, {"n": 1 << 20}) == 1
    volume = product([symbol(f"d{i}") for i in range(64)])
    assert evaluate(volume, {f"d{i}": 2 for i in range(64)}) == 2**64
    shape = [(symbol(f"s{i}") + 2) // 2 for i in range(7)]
    assert evaluate(product(shape), {f"s{i}": 4 for i in range(7)}) == 3**7
