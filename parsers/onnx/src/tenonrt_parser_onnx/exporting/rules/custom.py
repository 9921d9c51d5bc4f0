"""Layers that are no standard operator, and those that hold one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from onnx import NodeProto
from tenonrt.contracts import UnsupportedError

from tenonrt_parser_onnx.exporting.node import Writer

DOMAIN = "tenonrt"


def custom(w: Writer) -> None:
    """An operator of the kind's name, with the layer's attributes. ``acme.RoiAlign`` is RoiAlign of the domain acme."""
    domain, _, operator = w.kind.rpartition(".")
    if w.graphs:
        raise UnsupportedError("it owns graphs, and no operator of ONNX is known to be it", [])
    values = msgspec.structs.asdict(w.attrs)
    attrs = {name: _plain(value) for name, value in values.items() if value is not None and value != ()}
    w.node(operator, w.inputs, domain=domain or DOMAIN, **attrs)


def _plain(value: Any) -> Any:
    """Numbers, texts and lists of one type as such, booleans as integers, everything else as JSON."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float, str, bytes)):
        return value
    if (
        isinstance(value, tuple)
        and len({type(item) for item in value}) == 1
        and isinstance(value[0], (int, float, str))
    ):
        return list(value)
    return msgspec.json.encode(value).decode()


def reference(w: Writer) -> None:
    """An operator that is run by the onnx package is written as it was read."""
    domain, _, operator = w.attrs.operator.rpartition(":")
    node = NodeProto.FromString(w.attrs.node)
    given = iter(w.outputs)
    outputs = [next(given) if used else "" for used in w.attrs.outputs]
    w.copy(operator, domain, w.attrs.version, node.attribute, outputs)


RULES: dict[str, Callable[[Writer], None]] = {"OnnxReference": reference, "OnnxReferenceRandom": reference}
