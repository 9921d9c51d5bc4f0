"""NumPy broadcasting of shapes whose dimensions may be symbolic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from tenonrt.contracts import Dimension, Place, Shape, TensorInfo, maximum


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """The common shape; `ValueError` names the shapes and the axis that disagree.

    An integer above one wins over a symbol, which can only equal it or be one: the core checks which when it runs.
    """
    result: Shape = ()
    for shape in shapes:
        pairs = zip_longest(reversed(result), reversed(shape), fillvalue=1)
        joined = [_join(a, b, axis, shapes) for axis, (a, b) in enumerate(pairs)]
        result = tuple(reversed(joined))
    return result


def common_place(inputs: Sequence[TensorInfo]) -> Place:
    """The host when everything is there or known already (shape arithmetic), else the device."""
    hosted = any(i.place == "host" for i in inputs)
    return "host" if hosted and all(i.place == "host" or i.value is not None for i in inputs) else "device"


def _join(a: Dimension, b: Dimension, axis: int, shapes: Sequence[Shape]) -> Dimension:
    if a in {b, 1}:
        return b
    if b == 1:
        return a
    if isinstance(a, int) and isinstance(b, int):
        texts = ["x".join(map(str, shape)) or "scalar" for shape in shapes]
        raise ValueError(f"shapes {' and '.join(texts)} do not broadcast: axis {-1 - axis} has {a} and {b}")
    if isinstance(a, int) or isinstance(b, int):
        return a if isinstance(a, int) else b
    return maximum(a, b)
