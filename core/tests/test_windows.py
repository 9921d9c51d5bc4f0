"""Window arithmetic against windows placed one by one."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tenonrt.contracts import PaddingMode, TensorType, WindowAxis, per_axis, share_padding, symbol, window_axes


@st.composite
def windows(draw: st.DrawFn) -> WindowAxis:
    mode: PaddingMode = draw(st.sampled_from(get_args(PaddingMode)))
    window, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    reach = (window - 1) * dilation
    pads = st.integers(0, reach) if mode == "explicit" else st.just(0)  # ONNX wants less padding than the window spans
    return WindowAxis(window, draw(st.integers(1, 4)), dilation, draw(pads), draw(pads), mode, draw(st.booleans()))


def placed(axis: WindowAxis, size: int) -> int:
    """Windows put down one after the other for as long as they are allowed to."""
    if axis.mode.startswith("same"):
        return len(range(0, size, axis.stride))
    end, count, start = axis.pre + size + axis.post, 0, 0
    while start + axis.extent <= end or (axis.ceil and count and start + axis.extent - axis.stride < end):
        if axis.ceil and start >= axis.pre + size:
            break  # a window may not begin in the padding after the input
        count, start = count + 1, start + axis.stride
    return count


@given(windows(), st.integers(1, 20))
def test_output_is_the_number_of_windows(axis: WindowAxis, size: int) -> None:
    assume(axis.mode.startswith("same") or axis.extent <= axis.pre + size + axis.post)
    assert axis.output(size) == axis.positions(size) == placed(axis, size)
    symbolic = axis.output(symbol("n", 1))
    assert TensorType((symbolic,)).concrete({"n": size}) == (placed(axis, size),)


@given(windows(), st.integers(1, 20))
def test_same_pads_what_its_windows_need(axis: WindowAxis, size: int) -> None:
    before, after = axis.padding(size)
    if not axis.mode.startswith("same"):
        assert (before, after) == (axis.pre, axis.post)
        return
    needed = (axis.positions(size) - 1) * axis.stride + axis.extent
    assert before + after == max(needed - size, 0)
    assert after - before in ((0, 1) if axis.mode == "same_upper" else (0, -1))


def test_a_window_must_fit() -> None:
    with pytest.raises(ValueError, match="a window spanning 5 does not fit into a padded size of 4"):
        WindowAxis(3, dilation=2, pre=1).output(3)
    with pytest.raises(ValueError, match="spanning 3 does not fit"):
        WindowAxis(3).output(symbol("n", 0, 2))


def test_window_axes() -> None:
    assert window_axes((3, 2), (2, 1)) == [WindowAxis(3, 2), WindowAxis(2)]
    assert window_axes((3,), pre_padding=(1,), post_padding=(2,), ceil=True) == [WindowAxis(3, 1, 1, 1, 2, ceil=True)]
    assert window_axes((3,), pre_padding=(1,), mode="valid") == [WindowAxis(3, mode="valid")]
    refusals: tuple[tuple[dict[str, Any], str], ...] = (
        ({"stride": (1, 1)}, r"stride is \(1, 1\), expected one value for each of the 1 spatial axes"),
        ({"dilation": (0,)}, r"dilation is \(0,\), expected values of at least 1"),
        ({"pre_padding": (-1,)}, r"pre_padding is \(-1,\), expected values of at least 0"),
        ({"mode": "same"}, "padding_mode is 'same', expected one of"),
    )
    for wrong, why in refusals:
        with pytest.raises(ValueError, match=why):
            window_axes((3,), **wrong)
    with pytest.raises(ValueError, match="window is"):
        window_axes((0,))


def test_per_axis_and_share_padding() -> None:
    assert per_axis("stride", (), 2, 1) == (1, 1)
    assert share_padding(3, "same_upper") == (1, 2)
    assert share_padding(3, "same_lower") == (2, 1)
