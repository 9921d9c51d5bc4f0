"""Placing buffers: no overlap among the living, alignment, and how close to the least possible."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tenonrt.layout import ALIGNMENT
from tenonrt.plan.memory import Lifetime, lower_bound, plan_memory


@st.composite
def buffers(draw: st.DrawFn) -> list[Lifetime]:
    found = []
    for _ in range(draw(st.integers(0, 30))):
        first = draw(st.integers(0, 20))
        found.append(Lifetime(draw(st.integers(0, 2000)), first, draw(st.integers(first, 24))))
    return found


@given(buffers())
def test_simultaneous_buffers_never_overlap(given_buffers: list[Lifetime]) -> None:
    layout = plan_memory(given_buffers)
    for step in range(25):
        owner: dict[int, int] = {}
        for index, (buffer, offset) in enumerate(zip(given_buffers, layout.offsets, strict=True)):
            assert offset % ALIGNMENT == 0
            assert offset >= 0
            assert offset + buffer.nbytes <= layout.nbytes
            if buffer.first <= step <= buffer.last:
                for line in range(offset // ALIGNMENT, -(-(offset + buffer.nbytes) // ALIGNMENT)):
                    assert owner.setdefault(line, index) == index


@given(buffers())
def test_the_lower_bound_is_the_fullest_step(given_buffers: list[Lifetime]) -> None:
    fullest = max(
        (sum(-(-b.nbytes // 64) * 64 for b in given_buffers if b.first <= step <= b.last) for step in range(25)),
        default=0,
    )
    assert lower_bound(given_buffers) == fullest
    assert plan_memory(given_buffers).nbytes >= fullest


def test_random_networks_take_at_most_a_fifth_more_than_the_bound_and_a_twentieth_as_a_rule() -> None:
    rng, ratios = np.random.default_rng(5), []
    for _ in range(40):
        count = int(rng.integers(20, 200))
        lives = [
            Lifetime(int(rng.integers(1, 40)) * 4096, i, min(count, i + 1 + int(rng.geometric(0.5))))
            for i in range(count)
        ]
        layout = plan_memory(lives)
        ratios.append(layout.nbytes / layout.lower_bound)
    assert min(ratios) >= 1
    assert max(ratios) <= 1.2
    assert float(np.median(ratios)) <= 1.05


def test_a_chain_needs_two_buffers() -> None:
    layout = plan_memory([Lifetime(1000, i, i + 1) for i in range(50)])
    assert layout.nbytes == layout.lower_bound == 2 * 1024
