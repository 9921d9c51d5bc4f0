"""How tensor maps gather the rows of a product: pixels as they lie, or those that the corners of windows meet."""

from __future__ import annotations

from collections.abc import Iterable

from tenonrt_kernel_nvrtc.products.problem import Geometry
from tenonrt_kernel_nvrtc.tensor_maps import Images, Mapped, Matrix
from tenonrt_kernel_nvrtc.windows import Window

_FARTHEST, _STRIDE = 127, 8  # of the corners that a map of images has, and between them


def refuses_windows(axes: Iterable[Window]) -> str:
    """Why no map of images has these windows; empty when one has."""
    for w in axes:
        if max(w.before, w.after, (w.window - 1) * w.dilation) > _FARTHEST or w.stride > _STRIDE:
            return f"a window of {w.window} whose corners lie too far outside or apart"
    return ""


def stage_depth(channels: int, most: int) -> int:
    """Channels in a stage of k: half of ``most`` where that many would be zeros."""
    return most // 2 if -channels % most >= most // 2 else most


def mapped_rows(g: Geometry, box: int, depth: int, item: int) -> Mapped:
    """The map of ``box`` rows and ``depth`` channels, elements of ``item`` bytes, that are copied at once."""
    y, x = g.rows, g.columns
    if g.whole:
        return Matrix(g.m, g.channels, box, depth, item)
    after = tuple(w.after - (w.window - 1) * w.dilation for w in (y, x))
    return Images(
        g.images, y.size, x.size, g.channels, box, depth, (y.before, x.before), (after[0], after[1]),
        (y.stride, x.stride), item,
    )  # fmt: skip
