"""UFF files from nodes, constants and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tenonrt.contracts import Array, UnsupportedError, dtype_name

from tenonrt_parser_uff.fields import Dtype
from tenonrt_parser_uff.schema import DTYPES, INCREMENT, MAIN_ORDER, meta_graph

_NUMBERS = {name: number for number, name in DTYPES.items()}
_CANONICAL = {"N": ("N", "C", "+"), "K": ("K", "C", "+")}  # whose letters the letters of an order stand for


class UffFile:
    """One graph, "main", of metagraph version 1, as the TensorFlow converter wrote it."""

    def __init__(self) -> None:
        self._file = meta_graph()(version=1, descriptor_core_version=1)
        self._graph = self._file.graphs.add(id="main")
        self._custom = False

    def node(
        self,
        name: str,
        operation: str,
        inputs: Sequence[str],
        fields: Mapping[str, Any] | None = None,
        orders: Sequence[str] = (),
    ) -> None:
        """Fields are plain values, None for those to leave out. orders: of the inputs, "N+C" for [N, *S, C]."""
        node = self._graph.nodes.add(id=name, operation=operation, inputs=inputs)
        for key, value in (fields or {}).items():
            if value is not None:
                _store(node.fields[key], value)
        if orders:
            key = "_".join(["orders", *orders])
            if key not in self._file.referenced_data:
                _store_orders(self._file.referenced_data[key].dim_orders_list, orders)
            node.fields["inputs_orders"].ref = key
        self._custom |= operation.startswith("_")

    def constant(self, name: str, values: Array) -> None:
        """Weights lie apart from the node, which refers to them; strings have one element."""
        key = f"weights_{name}"
        held, dtype = self._file.referenced_data[key], dtype_name(values.dtype)
        if dtype == "string":
            if values.size != 1:
                raise UnsupportedError(f"constant {name!r} holds {values.size} strings; UFF has single ones", [])
            held.s = str(values.reshape(-1)[0])
            self.node(name, "Const", [], {"shape": values.shape})
        else:
            held.blob = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
            self.node(name, "Const", [], {"dtype": element_type(dtype), "shape": values.shape})
        self._graph.nodes[-1].fields["values"].ref = key

    def encode(self, outputs: Sequence[str]) -> Iterator[bytes]:
        """The bytes; the outputs are marked by a last node."""
        self.node("MarkOutput_0", "MarkOutput", outputs)
        for extension in ("tensorflow_extension", "custom")[: 1 + self._custom]:
            self._file.descriptors.add(id=extension, version=1)
        yield self._file.SerializeToString(deterministic=True)


def element_type(name: str) -> Dtype:
    """An element type that UFF has."""
    if name not in _NUMBERS:
        raise UnsupportedError(f"UFF has no element type {name}; it has {', '.join(_NUMBERS)}", [])
    return Dtype(name)


def _store(held: Any, value: Any) -> None:
    """What a field cannot hold, such as an array, is left unset."""
    if isinstance(value, Dtype):
        held.dtype = _NUMBERS.get(value, 7)  # as converters do with a type that UFF does not have
    elif isinstance(value, bool):
        held.b = value
    elif isinstance(value, int):
        held.i = value
    elif isinstance(value, float):
        held.d = value
    elif isinstance(value, str):
        held.s = value
    elif isinstance(value, (tuple, list, range)):
        _store_list(held, value)


def _store_list(held: Any, value: Sequence[Any]) -> None:
    if all(isinstance(v, Dtype) for v in value) and value:
        held.dtype_list.val.extend(_NUMBERS.get(v, 7) for v in value)
    elif all(isinstance(v, int) for v in value):
        held.i_list.SetInParent()
        held.i_list.val.extend(value)
    elif all(isinstance(v, float) for v in value):
        held.d_list.val.extend(value)
    elif all(isinstance(v, str) for v in value):
        held.s_list.val.extend(value)


def _store_orders(held: Any, orders: Sequence[str]) -> None:
    for order in orders:
        held.val.add().orders[MAIN_ORDER].val.extend(numbers(order))


def numbers(order: str) -> list[int]:
    """The numbers of an order: for each axis as stored its place in the canonical order of the same letters.

    That is NC+ or KC+, without + for matrices; + is the first spatial axis and a mark that all follow it. Where C and K
    follow kernels' spatial axes, as they do in kernels, the places are C 1 and K 0.
    """
    canonical = _CANONICAL["N" if "N" in order else "K"]
    found: list[int] = []
    for letter in order:
        found.append(canonical.index(letter))
        if letter == "+":
            found.append(INCREMENT)
    return found
