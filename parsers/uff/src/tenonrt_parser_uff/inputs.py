"""Network inputs: what the file declares, or what was registered in its stead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tenonrt.contracts import Dimension, GraphBuilder, ParseError, Tensor, TensorType, symbol

from tenonrt_parser_uff.consumers import Expected
from tenonrt_parser_uff.emit import transpose

InputOrder = Literal["NCHW", "NHWC", "NC"]
ORDERS = get_args(InputOrder)  # in TensorRT's numbering
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Registration:
    """Dimensions without the batch, and their order: that of the data the application will pass."""

    dims: tuple[int, ...]
    order: InputOrder


def registration(dims: Iterable[int], order: InputOrder | int) -> Registration:
    """`ValueError` for what cannot be an input."""
    names: tuple[InputOrder, ...] = ORDERS
    known: dict[InputOrder | int, InputOrder] = {**dict(enumerate(names)), **{name: name for name in names}}
    if order not in known:
        raise ValueError(f"the order {order!r} is none of {', '.join(ORDERS)}")
    sizes = tuple(int(d) for d in dims)
    if not sizes or any(d < 1 for d in sizes):
        raise ValueError(f"dimensions {list(sizes)} must be positive; the batch is left out")
    return Registration(sizes, known[order])


def declare(
    builder: GraphBuilder,
    name: str,
    dtype: str,
    declared: Sequence[int] | None,
    given: Registration | None,
    expected: Expected,
) -> Tensor:
    """The tensor that the file's nodes read: the network input, or its transpose where the registered order differs.

    ``declared`` is the file's shape, batch included, -1 for unknown; ``expected`` what the readers of the input want.
    """
    other = _in_other_order(declared, expected)
    if given is None:
        if declared is None:
            raise ParseError(f"has no shape; register one: register_input({name!r}, dims, order)")
        tensor = builder.input(name, TensorType(_symbols(name, declared), dtype))
        return _turned(builder, tensor, bool(expected.channels_last)) if other else tensor
    batch: Dimension = symbol("N", 1)
    if declared and len(declared) == len(given.dims) + 1 and declared[0] > 0:
        batch = declared[0]
    tensor = builder.input(name, TensorType((batch, *given.dims), dtype))
    if len(given.dims) != 3 or given.order == "NC":
        return tensor
    last = bool(expected.channels_last) if other else _stored_last(given, declared, expected)
    return tensor if last == (given.order == "NHWC") else _turned(builder, tensor, last)


def _turned(builder: GraphBuilder, tensor: Tensor, to_last: bool) -> Tensor:
    return transpose(builder, tensor, TO_LAST if to_last else TO_FIRST)


def _in_other_order(declared: Sequence[int] | None, expected: Expected) -> bool:
    """Whether the file's shape has the channels that a kernel wants, but not where it wants them.

    Scripts that prepared graphs for TensorRT put the importer's order, C, H, W, into graphs with channels last.
    """
    if declared is None or len(declared) != 4 or expected.channels is None:
        return False
    first, last = declared[1] == expected.channels, declared[3] == expected.channels
    return first and not last if expected.channels_last else last and not first


def _symbols(name: str, declared: Sequence[int]) -> tuple[Dimension, ...]:
    """Unknown dimensions become symbols, at least 1: the batch is that of all inputs."""
    if any(d < -1 for d in declared):
        raise ParseError(f"has the shape {list(declared)[:8]}; -1 stands for an unknown dimension")
    return tuple(
        d if d >= 0 else symbol("N" if not axis else f"{name}_{axis}", 1) for axis, d in enumerate(declared)
    )  # fmt: skip


def _stored_last(given: Registration, declared: Sequence[int] | None, expected: Expected) -> bool:
    """Whether the file's nodes read [N, H, W, C]."""
    c, h, w = given.dims if given.order == "NCHW" else (given.dims[2], *given.dims[:2])
    first, last = _matches((c, h, w), declared), _matches((h, w, c), declared)
    if first != last:
        return last
    return given.order == "NHWC" if expected.channels_last is None else expected.channels_last


def _matches(dims: Sequence[int], declared: Sequence[int] | None) -> bool:
    if declared is None or len(declared) != len(dims) + 1:
        return False
    return all(b in (-1, a) for a, b in zip(dims, declared[1:], strict=True))
