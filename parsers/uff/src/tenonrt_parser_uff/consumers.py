"""What the nodes that read an input expect of it, found by the nearest ones that have dimension orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tenonrt_parser_uff.fields import References, read_field
from tenonrt_parser_uff.orders import stored_axes

# Operations whose result has the layout of their input.
KEEPING = frozenset({"Activation", "BatchNorm", "Binary", "Identity", "LRN", "LeakyRelu", "Pad", "Pool", "Unary"})


@dataclass(frozen=True)
class Expected:
    """channels_last: where readers have them, None where they do not care; channels: how many, where that is sure."""

    channels_last: bool | None = None
    channels: int | None = None


class Consumers:
    """Answers for the inputs of one file."""

    def __init__(self, nodes: Mapping[str, Any], references: References) -> None:
        self._nodes = nodes
        self._references = references
        self._readers: dict[str, list[str]] = {}
        for reader in nodes.values():
            for needed in reader.inputs:
                self._readers.setdefault(needed, []).append(reader.id)

    def of(self, name: str) -> Expected:
        """Of the nearest node downstream that says anything; channels only if nothing before it moves them."""
        level, seen, moved = [name], {name}, False
        while level:
            for reader in (r for n in level for r in self._readers.get(n, ()) if r not in seen):
                last = self._reads_last(reader)
                if last is not None:
                    return Expected(last, None if moved else self._channels(reader))
            level = self._following(level, seen)
            moved = moved or any(self._nodes[n].operation not in KEEPING for n in level)
        return Expected()

    def _following(self, level: Collection[str], seen: set[str]) -> list[str]:
        found = list(dict.fromkeys(r for n in level for r in self._readers.get(n, ()) if r not in seen))
        seen.update(found)
        return found

    def _field(self, name: str, field: str) -> Any:
        fields = self._nodes[name].fields
        return read_field(fields[field], self._references) if field in fields else None

    def _reads_last(self, name: str) -> bool | None:
        """Whether a node's first input has its channels last; None where it has no order."""
        orders = self._field(name, "inputs_orders")
        if not isinstance(orders, tuple) or not orders or not isinstance(orders[0], tuple):
            return None
        return stored_axes(orders[0], 4)[3] == 1 if len(orders[0]) > 2 else None

    def _channels(self, name: str) -> int | None:
        """Those of a convolution's kernel."""
        node = self._nodes[name]
        if node.operation != "Conv" or len(node.inputs) < 2 or self._field(name, "number_groups") not in (None, 1):
            return None
        orders, kernel = self._field(name, "inputs_orders"), node.inputs[1]
        shape = self._field(kernel, "shape") if kernel in self._nodes else None
        if len(orders) < 2 or not isinstance(shape, tuple) or len(shape) != 4 or not isinstance(orders[1], tuple):
            return None
        size = shape[stored_axes(orders[1], 4).index(1)]
        return size if isinstance(size, int) else None
