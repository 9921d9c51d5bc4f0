"""What a build may be told to leave out, by name, so that what each optimization buys can be measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tenonrt.errors import BuildError

# Name: what stays undone without it. Passes have names of their own, as their entry points: ``fuse.affine``.
OPTIMIZATIONS = {
    "aggregation": "sibling layers that read one tensor are computed together",
    "concat_removal": "layers write their part of a concatenation where it belongs",
    "exact_cover": "regions and tactics are chosen together; without it the longest region first, then its best tactic",
    "finals": "close candidates are timed in place",
    "formats": "tensors may be stored in blocks or other orders than their own",
    "fusion": "layers that follow each other are computed together",
    "in_place": "a result may take over the bytes of an input",
    "memory_reuse": "tensors that are never needed at once share bytes",
    "views": "slices, splits and reshapes need not move data",
    "whole_programs": "whole programs decide whether steps in Python, and more than one thread, pay",
}


def check_names(disabled: Collection[str], passes: Iterable[str]) -> None:
    """`BuildError` for a name that is neither an optimization nor an installed pass."""
    known = {*OPTIMIZATIONS, *passes}
    if unknown := sorted(set(disabled) - known):
        raise BuildError(
            f"nothing to disable is called {', '.join(map(repr, unknown))}; there are {', '.join(sorted(known))}"
        )
