"""Sample inputs: any iterable of batches, the callbacks of TensorRT's calibrators, or a file of arrays."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from zipfile import BadZipFile

import numpy as np

from tenonrt.contracts import Tensor
from tenonrt.dims import bounds
from tenonrt.errors import BuildError
from tenonrt.types import Array

Batch = Mapping[str, Array]

# What reading a damaged file raises, the archive of an .npz included.
_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, RuntimeError, BadZipFile, zlib.error)


@runtime_checkable
class CalibrationCallbacks(Protocol):
    """The words of TensorRT's IInt8Calibrator. get_batch: one array for each name, None when there is no more."""

    def get_batch_size(self) -> int: ...
    def get_batch(self, names: Sequence[str]) -> Sequence[Array] | None: ...
    def read_calibration_cache(self) -> bytes | None: ...
    def write_calibration_cache(self, cache: bytes) -> None: ...


def batches_of(data: Any, inputs: Sequence[Tensor]) -> Iterator[Batch]:
    """Batches by input name. A batch may be a mapping, a sequence in the order of the inputs, or a single array."""
    names = [tensor.name for tensor in inputs]
    if isinstance(data, CalibrationCallbacks):
        while (given := data.get_batch(names)) is not None:
            yield _named(given, names)
        return
    if isinstance(data, str | Path):
        data = load_batches(Path(data), inputs)
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise BuildError(f"calibration data are {type(data).__name__}, expected an iterable of batches or a file")
    for batch in data:
        yield _named(batch, names)


def _named(batch: Any, names: Sequence[str]) -> Batch:
    if isinstance(batch, Mapping):
        found = dict(batch)
    elif isinstance(batch, str | bytes) or not isinstance(batch, Iterable):
        raise BuildError(
            f"a calibration batch is {type(batch).__name__}, expected arrays by the names of the inputs "
            f"({', '.join(names)}), a sequence of them in this order, or the only one"
        )
    else:
        given = [batch] if isinstance(batch, np.ndarray) else list(batch)
        if len(given) != len(names):
            raise BuildError(f"a calibration batch has {len(given)} arrays for the inputs {', '.join(names)}")
        found = dict(zip(names, given, strict=True))
    missing = sorted(set(names) ^ set(found))
    if missing:
        raise BuildError(f"a calibration batch lacks or has besides: {', '.join(missing)}; inputs: {', '.join(names)}")
    arrays = {name: np.asarray(found[name]) for name in names}
    if names and not any(array.size for array in arrays.values()):
        raise BuildError(f"a calibration batch has no samples: {', '.join(names)} is empty")
    return arrays


def load_batches(path: Path, inputs: Sequence[Tensor], most: int = 8) -> Iterator[Batch]:
    """Of an .npz with samples for each input, an .npy for the only input, or a folder of either.

    A batch has as many samples as the first input's first axis says, or up to ``most`` of those that it admits.
    `BuildError` where a file has none for some input, or no whole batches for a model that takes no others.
    """
    files = sorted(f for f in path.iterdir() if f.suffix in (".npz", ".npy")) if path.is_dir() else [path]
    if not files:
        raise BuildError(f"{path} has no .npz or .npy file of samples")
    least, greatest = bounds(inputs[0].type.shape[0]) if inputs[0].type.rank else (1, None)
    size = max(least or 1, min(most, most if greatest is None else greatest))
    for file in files:
        arrays = _arrays(file, [tensor.name for tensor in inputs])
        count = _samples(file, arrays)
        _require_types(file, arrays, inputs)
        if least == greatest and count % size:
            raise BuildError(
                f"{file} has {count} samples, and the model takes batches of {size} and no others: "
                f"leave {count % size} out, or give the model a symbolic batch axis"
            )
        for start in range(0, count, size):
            yield {name: array[start : start + size] for name, array in arrays.items()}


def _require_types(file: Path, arrays: Batch, inputs: Sequence[Tensor]) -> None:
    """`BuildError` where samples are of another element type than the input, or of another size."""
    for tensor in inputs:
        array, type = arrays[tensor.name], tensor.type
        if array.dtype != type.numpy:
            raise BuildError(
                f"{file}: the samples for input {tensor.name!r} are {array.dtype}, the input is {type}: "
                f"convert them with .astype('{type.dtype}')"
            )
        sizes = zip(array.shape[1:], type.shape[1:], strict=False)
        if type.rank and (array.ndim != type.rank or any(isinstance(b, int) and a != b for a, b in sizes)):
            raise BuildError(
                f"{file}: the samples for input {tensor.name!r} have the shape {array.shape}, the input is {type}; "
                f"the first axis counts samples"
            )


def _samples(file: Path, arrays: Batch) -> int:
    """How many samples every array has."""
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if 0 in counts.values() or len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise BuildError(f"{file} must have the same number of samples for each input, along the first axis: {found}")
    return max(counts.values())


def _arrays(file: Path, names: Sequence[str]) -> dict[str, Array]:
    try:
        with file.open("rb") as opened:  # NumPy leaves files open that it cannot read
            return _loaded(file, np.load(opened, allow_pickle=False), names)
    except _UNREADABLE as error:
        raise BuildError(f"{file} is no .npy or .npz file of numbers: {error}") from error


def _loaded(file: Path, loaded: Any, names: Sequence[str]) -> dict[str, Array]:
    if isinstance(loaded, np.ndarray):
        if len(names) != 1:
            raise BuildError(f"{file} has one array for the inputs {', '.join(names)}; save them by name with savez")
        return {names[0]: loaded}
    with loaded:
        missing = [name for name in names if name not in loaded]
        if missing:
            raise BuildError(f"{file} lacks the inputs {', '.join(missing)}; it has {', '.join(loaded)}")
        return {name: loaded[name] for name in names}
