"""How a reduction is cut: axes merged into groups that are reduced or kept in turn, and parts for a second phase."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tenonrt.contracts import Dim, Dimension, Format, Problem, normalize_axes, product, window_axes

from tenonrt_kernel_llvm.indexing import is_blocked, known
from tenonrt_kernel_llvm.target import BLOCK

TILE = 4  # vectors that one item carries along, which hides the latency of additions
_SPLIT = 65536  # elements reduced in all before a second phase is worth it, some 5 microseconds
_PARTS = 16


@dataclass(frozen=True)
class Operation:
    """What is reduced how; axes are not negative."""

    name: str
    axes: tuple[int, ...]


def operation(problem: Problem) -> Operation | str:
    """The reduction that the first layer is, or why it is none."""
    attrs, source = problem.layer.attrs, problem.types[0]
    if problem.layer.kind == "Reduce":
        axes = range(source.rank) if attrs.axes is None else normalize_axes(attrs.axes, source.rank)
        return Operation(attrs.operation, tuple(sorted(axes)))
    name = {"max": "max", "average": "mean"}.get(attrs.function)
    if name is None or attrs.with_indices:
        return f"pooling by {attrs.function}, or with indices"
    given = (attrs.window, attrs.stride, attrs.dilation, attrs.pre_padding, attrs.post_padding)
    for axis, size in zip(window_axes(*given, attrs.padding_mode, attrs.ceil), source.shape[2:], strict=True):
        if isinstance(size, Dim) or axis.window != size or axis.output(size) != 1 or any(axis.padding(size)):
            return "a window that is not the whole image"
        if axis.dilation != 1 and axis.window != 1:
            return "a dilated window"
    return Operation(name, tuple(range(2, source.rank)))


@dataclass(frozen=True)
class Group:
    """Neighbouring axes that are all reduced or all kept."""

    size: Dimension
    reduced: bool


def groups_of(problem: Problem, format: Format) -> list[Group]:
    """Axes of size one dropped and neighbours merged; of blocked channels the outer axes stay apart."""
    found = operation(problem)
    assert isinstance(found, Operation)
    type = problem.types[0].stored_as(format)
    groups: list[Group] = []
    if is_blocked(format):
        return [Group(size, axis in found.axes) for axis, size in enumerate(type.physical_shape)]
    for axis, size in enumerate(type.shape):
        reduced = axis in found.axes
        if size == 1:
            continue
        if groups and groups[-1].reduced == reduced:
            groups[-1] = Group(groups[-1].size * size, reduced)
        else:
            groups.append(Group(size, reduced))
    if not any(group.reduced for group in groups):  # only axes of size one are reduced
        groups.append(Group(1, True))
    return groups


@dataclass(frozen=True)
class Layout:
    """How the reduction is cut. split: the group whose range is divided into parts, None: one phase."""

    groups: tuple[Group, ...]
    split: int | None = None
    parts: int = 1

    @property
    def inner(self) -> Group:
        return self.groups[-1]

    @property
    def kept(self) -> list[int]:
        """The groups, without the inner one, that have coordinates."""
        return [i for i, group in enumerate(self.groups[:-1]) if not group.reduced]

    @property
    def reduced(self) -> list[int]:
        return [i for i, group in enumerate(self.groups[:-1]) if group.reduced]

    @property
    def tiles(self) -> int:
        """How many tiles the inner group has when it is kept."""
        return 1 if self.inner.reduced else -(-known(self.inner.size) // (TILE * BLOCK))

    @property
    def vectors(self) -> int:
        """Vectors of one partial result."""
        return 1 if self.inner.reduced else min(TILE, -(-known(self.inner.size) // BLOCK))

    @property
    def grid(self) -> list[Dimension]:
        return [*[self.groups[i].size for i in self.kept], self.tiles]

    @property
    def workspace(self) -> Dimension:
        return 0 if self.split is None else product(self.grid) * (self.parts * self.vectors * BLOCK * 4)


def layout_of(problem: Problem, format: Format, in_parts: bool = True) -> Layout:
    """How a problem's reduction is cut. in_parts: a second phase is possible."""
    found = operation(problem)
    assert isinstance(found, Operation)
    layout = Layout(tuple(groups_of(problem, format)))
    if not in_parts:
        return layout
    terms = [g.size for g in layout.groups if g.reduced]
    results = product(layout.grid)
    if isinstance(results, Dim) or any(isinstance(t, Dim) for t in terms) or found.name == "log_sum_exp":
        return layout
    each = math.prod(known(t) for t in terms) * (layout.vectors * BLOCK if not layout.inner.reduced else 1)
    parts = -(-_PARTS // results)
    if results >= 8 or results * each < _SPLIT:
        return layout
    if not layout.reduced:
        size = known(layout.inner.size)
        divisor = next((p for p in range(parts, 1, -1) if size % p == 0), 1)
        if divisor == 1:
            return layout
        layout = replace(layout, groups=(*layout.groups[:-1], Group(divisor, True), Group(size // divisor, True)))
    split = layout.reduced[0]
    return replace(layout, split=split, parts=min(parts, known(layout.groups[split].size)))
