"""Which steps may run side by side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tenonrt_device_cuda.lanes import Extent, conflicts, places

extents = st.builds(
    lambda start, rows, width, gap: Extent.of(start, (rows, width), (width + gap, 1), 1),
    st.integers(0, 60), st.integers(1, 4), st.integers(1, 8), st.integers(0, 8),
)  # fmt: skip


def touched(extent: Extent) -> set[int]:
    """Every byte, one by one."""
    return {b for row in range(extent.start, extent.end, extent.pitch) for b in range(row, row + extent.width)}


@given(extents, extents)
def test_extents_that_share_a_byte_meet(some: Extent, other: Extent) -> None:
    if touched(some) & touched(other):
        assert some.meets(other)
        assert other.meets(some)


def test_slices_of_one_tensor_do_not_meet() -> None:
    """The parts of a concatenation lie between each other, pixel by pixel."""
    first, second = (Extent.of(start, (4, 8), (24, 1), 1) for start in (0, 8))
    assert not first.meets(second)
    assert first.meets(Extent.of(4, (4, 8), (24, 1), 1))
    assert first.meets(Extent.of(0, (96,), (1,), 1))


@given(
    st.lists(st.tuples(st.lists(extents, max_size=2), st.lists(extents, min_size=1, max_size=2)), max_size=12),
    st.integers(1, 4),
)
def test_a_step_runs_after_all_that_it_needs(steps: list[tuple[list[Extent], list[Extent]]], lanes: int) -> None:
    needs = conflicts([r for r, _ in steps], [w for _, w in steps])
    found = places(needs, lanes)
    assert all(place.lane < lanes for place in found)
    before: list[set[int]] = []  # what is sure to have ended: the lane's steps, what they and this one waited for
    last: dict[int, int] = {}
    for step, place in enumerate(found):
        known = set[int]()
        for i in (*place.waits, *([last[place.lane]] if place.lane in last else [])):
            known |= before[i] | {i}
        assert set(needs[step]) <= known
        before.append(known)
        last[place.lane] = step


def test_branches_get_lanes_of_their_own() -> None:
    """Three steps that read one tensor, and one that reads their results."""
    a, b, c, d, e = (Extent(16 * i, 16 * i + 16, 16, 16) for i in range(5))
    found = places(conflicts([[a], [a], [a], [b, c, d]], [[b], [c], [d], [e]]), 4)
    assert [place.lane for place in found[:3]] == [0, 1, 2]
    assert len(found[3].waits) == 2
