"""Values that are no tensors: sequences, optionals and maps, as element types of scalars that live on the host.

``sequence(float32)`` is a list of float32 tensors, ``sequence(float32:2)`` one of matrices, where their rank is known.
``optional(float32:1)`` is a vector or nothing, ``map(string,int64)`` a dict. They nest. An array of such a type has
rank 0 and NumPy's type ``object``: one list, dict, array or None in it. Only layers that say so take them, and none is
ever a constant of a plan.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Compiled when first asked about: most networks have tensors only.
_FORM = r"(sequence|optional|map)\((.+)\)"
_RANKED = r"([a-z0-9_]+)(?::(\d+))?"


def is_container(name: str) -> bool:
    """Whether an element type is a sequence, an optional or a map; of what, is not looked at."""
    return name.endswith(")") and re.fullmatch(_FORM, name) is not None


def contents(name: str) -> tuple[str, tuple[str, ...]]:
    """Which container an element type is and what it is made of; `ValueError` for one that is none."""
    match = re.fullmatch(_FORM, name)
    if match is None:
        raise ValueError(f"{name} is no sequence, optional or map")
    kind, inner = match.groups()
    return kind, tuple(inner.split(",", 1)) if kind == "map" else (inner,)


def ranked(name: str) -> tuple[str, int | None]:
    """Element type and rank of the tensors in a container: ``float32:2``; None where the rank differs or is unknown."""
    match = re.fullmatch(_RANKED, name)
    if match is None:
        return name, None
    return match[1], None if match[2] is None else int(match[2])


def joined(left: str, right: str) -> str | None:
    """The element type that values of both have; None when there is none. A rank that differs is left out."""
    if left == right:
        return left
    if is_container(left) and is_container(right):
        (kind, ours), (other, theirs) = contents(left), contents(right)
        inner = [joined(a, b) for a, b in zip(ours, theirs, strict=False)]
        found = [name for name in inner if name is not None]
        return f"{kind}({','.join(found)})" if kind == other and len(found) == len(ours) else None
    if is_container(left) or is_container(right):
        return None
    (dtype, _), (same, _) = ranked(left), ranked(right)
    return dtype if dtype == same else None


def boxed(value: Any) -> NDArray[Any]:
    """A value as an array of rank 0 that holds it."""
    if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0:
        return value
    box = np.empty(1, object)
    box[0] = value
    return box.reshape(())
