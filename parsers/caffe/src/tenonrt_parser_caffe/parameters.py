"""The learned arrays of a layer: from the trained model, from a layer they are shared with, or made up."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
from tenonrt.contracts import Array, ParseError

from tenonrt_parser_caffe.blob import Blob
from tenonrt_parser_caffe.fillers import generate


class Store:
    """The trained blobs by layer, and the arrays that layers share by name. seed: makes up what is missing."""

    def __init__(self, weights: Mapping[str, Sequence[Blob]], seed: int | None = None) -> None:
        self.weights = weights
        self.seed = seed
        self.shared: dict[str, Array] = {}

    def of(self, layer: str, names: Sequence[str]) -> Parameters:
        """The arrays of a layer; ``names``: under which they are shared, empty for those that are not."""
        return Parameters(self, layer, names)


class Parameters(Sequence[Array]):
    """The arrays of one layer; as a sequence those that are there."""

    def __init__(self, store: Store, layer: str, names: Sequence[str]) -> None:
        self._store = store
        self._layer = layer
        self._names = names
        self._blobs = store.weights.get(layer, ())
        self._used = 0

    def __len__(self) -> int:
        return len(self._blobs)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        if isinstance(index, slice):
            self._used = len(self)
            return [blob.array() for blob in self._blobs[index]]
        self._used = max(self._used, index % len(self) + 1 if len(self) else 0)
        return self._blobs[index].array()

    def take(self, index: int, shape: tuple[int, ...], filler: Mapping[str, Any] | None, assumed: str) -> Array:
        """The array at an index, float32 in this shape.

        filler: of the layer; assumed: the type of filler where it names none, for what is made up.
        """
        self._used = max(self._used, index + 1)
        shared = self._names[index] if index < len(self._names) else ""
        if index < len(self._blobs):
            array = _shaped(self._blobs[index].array(), shape, index)
        elif shared in self._store.shared:
            array = _shaped(self._store.shared[shared], shape, index)
        elif self._blobs:
            raise ParseError(f"has {len(self._blobs)} blobs in the trained model; blob {index} is needed too")
        elif self._store.seed is None:
            raise ParseError(
                "has no trained blobs; name the caffemodel that holds them (weights), or have them made up "
                "(random_weights)"
            )
        else:
            rng = np.random.default_rng([self._store.seed, zlib.crc32(self._layer.encode()), index])
            array = generate(filler or {"type": assumed}, shape, rng)
        if shared:
            self._store.shared.setdefault(shared, array)
        return array

    def check_all_used(self) -> None:
        """`ParseError` for blobs that the layer does not take, such as a bias where bias_term is false, as in Caffe."""
        if self._used < len(self):
            raise ParseError(f"has {len(self)} blobs in the trained model; with its parameters it takes {self._used}")


def _shaped(array: Array, shape: tuple[int, ...], index: int) -> Array:
    """Old files pad shapes with ones in front; anything else must be as expected."""
    padding = array.ndim - len(shape)
    if array.shape == shape or (padding > 0 and array.shape == (1,) * padding + shape):
        return array.reshape(shape)
    found, expected = ("x".join(map(str, s)) or "scalar" for s in (array.shape, shape))
    raise ParseError(f"blob {index} is {found}; the layer needs {expected}")
