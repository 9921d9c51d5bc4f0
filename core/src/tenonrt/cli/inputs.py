"""Inputs for an engine: given arrays where there are some, seeded random ones for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenonrt.errors import ExecutionError

if TYPE_CHECKING:
    import numpy as np

    from tenonrt.plan.program import Binding, Profile
    from tenonrt.types import Array, TensorType


def load_array(name: str, path: Path, type: TensorType) -> Array:
    """The array of an .npy file; `ExecutionError` when it is none. Pickled objects are refused, never loaded."""
    import numpy as np

    try:
        array: Any = np.load(path, allow_pickle=False)
    except OSError as error:
        raise ExecutionError(f"input {name!r}: {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise ExecutionError(
            f"input {name!r}: {path} is no whole .npy file of numbers; write one with numpy.save (pickled objects are "
            f"never loaded)"
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise ExecutionError(f"input {name!r}: {path} is an archive of arrays; save one array with numpy.save")
    wanted = type.numpy
    # .npy has no names for types such as bfloat16 and keeps their bytes as raw ones.
    return array.view(wanted) if array.dtype.kind == "V" and array.dtype.itemsize == wanted.itemsize else array


def input_sizes(
    inputs: Sequence[Binding],
    arrays: Mapping[str, Array],
    shapes: Mapping[str, Sequence[int]],
    batch: int | None = None,
    profiles: Sequence[Profile] = (),
) -> dict[str, int]:
    """The size of every symbol of the inputs: as arrays and shapes say, then ``batch``, else one that a profile which
    holds the others is tuned for, or the least it may be.

    The batch symbol is that of the first input whose first dimension is one. `ExecutionError` when nothing fits.
    """
    from tenonrt.dims import symbols
    from tenonrt.runtime.shapes import bind_shape

    _refuse_unknown(inputs, [*arrays, *shapes])
    values: dict[str, int] = {}
    for binding in inputs:
        given = arrays[binding.name].shape if binding.name in arrays else shapes.get(binding.name)
        if given is not None:
            bind_shape(f"input {binding.name!r}", binding.type, given, values)
    if batch is not None:
        _bind_batch(inputs, batch, values)
    tuned = _tuned_sizes(profiles, values)
    for found in (s for binding in inputs for dimension in binding.type.shape for s in symbols(dimension)):
        least = max(found.lower, 1)
        values.setdefault(found.name, tuned.get(found.name, least if found.upper is None else min(least, found.upper)))
    return values


def _tuned_sizes(profiles: Sequence[Profile], given: Mapping[str, int]) -> Mapping[str, int]:
    """The first sizes tuned for that have the given ones; else the first of a profile that holds those."""
    exact = [t for p in profiles for t in p.tuned if all(t.get(name) == size for name, size in given.items())]
    near = [p.tuned[0] for p in profiles if p.holds({**p.tuned[0], **given})]
    return next(iter([*exact, *near]), {})


def _refuse_unknown(inputs: Sequence[Binding], names: Sequence[str]) -> None:
    known = [binding.name for binding in inputs]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ExecutionError(f"there is no input {', '.join(map(repr, unknown))}; the inputs are {', '.join(known)}")


def _bind_batch(inputs: Sequence[Binding], batch: int, values: dict[str, int]) -> None:
    from tenonrt.runtime.shapes import bind_shape

    for binding in inputs:
        if binding.type.rank and not isinstance(binding.type.shape[0], int):
            leading = binding.type.reshape(binding.type.shape[:1])
            bind_shape(f"the batch of input {binding.name!r}", leading, [batch], values)
            return
    fixed = {binding.type.shape[0] for binding in inputs if binding.type.rank}
    if batch not in fixed:
        raise ExecutionError(
            f"no input takes a batch of {batch}: the first dimensions are {sorted(map(str, fixed))}; "
            f"build the model with a symbolic batch or with --shape"
        )


def batch_of(inputs: Sequence[Binding], values: Mapping[str, int]) -> int:
    """The first dimension of the first input, 1 where there is none."""
    for binding in inputs:
        if binding.type.rank:
            return binding.type.concrete(values)[0]
    return 1


def fill(
    inputs: Sequence[Binding], arrays: Mapping[str, Array], values: Mapping[str, int], seed: int
) -> dict[str, Array]:
    """Every input: the given arrays, and random ones for the others. Equal seeds give equal arrays."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return {b.name: arrays[b.name] if b.name in arrays else _random(b.type.substitute(values), rng) for b in inputs}


def _random(type: TensorType, rng: np.random.Generator) -> Array:
    """Standard normal floats; integers 0 and 1, which any model takes as a mask, a token or an index."""
    from tenonrt.contracts import draw

    if "int" in type.dtype:
        return rng.integers(0, 2, type.concrete({})).astype(type.numpy)
    return draw(type, rng)
