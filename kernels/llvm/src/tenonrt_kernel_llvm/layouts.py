"""How the elements of a tensor lie in another one's memory: strides that movement layers permute, split and merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tenonrt.contracts import Dimension, TensorType

ITEM = 4  # bytes of a float32


def known(size: Dimension) -> int:
    """A size that does not change at run time."""
    if not isinstance(size, int):
        raise TypeError(f"{size} is symbolic")
    return size


@dataclass(frozen=True)
class Layout:
    """Sizes and strides, which are bytes. Only the first size may be symbolic, so strides are known."""

    shape: tuple[Dimension, ...]
    strides: tuple[int, ...]

    @classmethod
    def dense(cls, type: TensorType) -> Layout | None:
        """Row-major; None where another size than the first is symbolic."""
        strides: list[int] = []
        stride = type.numpy.itemsize
        for size in reversed(type.shape):
            strides.append(stride)
            if len(strides) < type.rank:
                if not isinstance(size, int):
                    return None
                stride *= size
        return cls(type.shape, tuple(reversed(strides)))

    def permute(self, order: Sequence[int]) -> Layout:
        return Layout(tuple(self.shape[i] for i in order), tuple(self.strides[i] for i in order))

    def swap_last(self) -> Layout:
        """The last two axes exchanged."""
        order = list(range(len(self.shape)))
        order[-2:] = order[-1], order[-2]
        return self.permute(order)

    def broadcast(self, shape: Sequence[Dimension]) -> Layout | None:
        """Repeated over a larger shape: stride 0 where it has one element; None where that cannot be."""
        missing = len(shape) - len(self.shape)
        if missing < 0:
            return None
        strides = [0] * missing
        for size, stride, wanted in zip(self.shape, self.strides, shape[missing:], strict=True):
            if size not in (1, wanted):
                return None
            strides.append(0 if size == 1 else stride)
        return Layout(tuple(shape), tuple(strides))

    def reshape(self, shape: Sequence[Dimension]) -> Layout | None:
        """The same elements in other axes without moving them; None where that cannot be."""
        old = [(size, stride) for size, stride in zip(self.shape, self.strides, strict=True) if size != 1]
        new = [size for size in shape if size != 1]
        if 0 in self.shape or 0 in shape:
            return None
        strides: list[int] = []
        i = 0
        for group in _groups([size for size, _ in old], new) or ():
            taken, i = old[i : i + group[0]], i + group[0]
            wanted = new[len(strides) : len(strides) + group[1]]
            fitting = _split(taken, wanted)
            if fitting is None:
                return None
            strides += fitting
        if i != len(old) or len(strides) != len(new):
            return None
        left = iter(strides)
        return Layout(tuple(shape), tuple(0 if size == 1 else next(left) for size in shape))


def _groups(old: Sequence[Dimension], new: Sequence[Dimension]) -> list[tuple[int, int]] | None:
    """The shortest runs of axes that hold equally many elements: how many old and how many new."""
    groups: list[tuple[int, int]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, second = old[i], new[j]
        start = i, j
        i, j = i + 1, j + 1
        while first != second:
            if not isinstance(first, int) or not isinstance(second, int):
                return None
            if first < second and i < len(old):
                first, i = first * old[i], i + 1
            elif second < first and j < len(new):
                second, j = second * new[j], j + 1
            else:
                return None
        groups.append((i - start[0], j - start[1]))
    return groups if i == len(old) and j == len(new) else None


def _split(old: Sequence[tuple[Dimension, int]], new: Sequence[Dimension]) -> list[int] | None:
    """Strides of the new axes where the old ones follow each other without gaps."""
    for (_, outer), (size, inner) in pairwise(old):
        if outer != size * inner:
            return None
    strides: list[int] = []
    stride = old[-1][1]
    for size in reversed(new):
        strides.append(stride)
        stride = stride * size if isinstance(size, int) else stride
    return strides[::-1]
