"""Dimension orders: which axis of the canonical tensor each stored axis is.

Canonical are NC+ for activations, KC+ for kernels (+ stands for all spatial axes, outermost first), NC and KC for
matrices. NHWC is N+C, TensorFlow's kernels are +CK.
"""

from __future__ import annotations

from tenonrt.contracts import ParseError

from tenonrt_parser_uff.schema import DECREMENT, INCREMENT

Order = tuple[int, ...]
Permutation = tuple[int, ...]

CANONICAL: Order = (0, 1, 2, INCREMENT)


def stored_axes(order: Order, rank: int) -> Permutation:
    """For each stored axis of a tensor of this rank, the canonical axis that it is.

    ``a, INCREMENT`` stands for as many axes a, a + 1, ... as the rank leaves, ``DECREMENT, a`` for the same backwards.
    """
    if len(order) > rank + 2:
        raise ParseError(f"an order of {len(order)} numbers does not fit a tensor of rank {rank}")
    spans = [entry for entry in order if entry in (INCREMENT, DECREMENT)]
    if len(spans) > 1:
        raise ParseError(f"the order {list(order)} spans the spatial axes more than once")
    spread = rank - (len(order) - 2) if spans else 0
    axes: list[int] = []
    entries = list(order)
    while entries:
        entry = entries.pop(0)
        if entry == DECREMENT and entries:
            first = entries.pop(0)
            axes.extend(range(first + spread - 1, first - 1, -1))
        elif entries and entries[0] == INCREMENT:
            entries.pop(0)
            axes.extend(range(entry, entry + spread))
        else:
            axes.append(entry % rank if -rank <= entry < 0 else entry)
    if sorted(axes) != list(range(rank)):
        raise ParseError(f"the order {list(order)} does not order the axes of a tensor of rank {rank}")
    return tuple(axes)


def inverse(permutation: Permutation) -> Permutation:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))
