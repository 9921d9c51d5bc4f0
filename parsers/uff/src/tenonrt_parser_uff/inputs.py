"""Network inputs: what the file declares, or what was registered in its stead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tenonrt.contracts import Dimension, GraphBuilder, ParseError, Tensor, TensorType, symbol

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
    channels_last: Callable[[], bool | None],
) -> Tensor:
    """The tensor that the file's nodes read: the network input, or its transpose where the registered order differs.

    ``declared`` is the file's shape, batch included, -1 for unknown. ``channels_last`` finds out what the readers of
    the input expect, when its shape does not tell; None: they do not care.
    """
    if given is None:
        if declared is None:
            raise ParseError(f"has no shape; register one: register_input({name!r}, dims, order)")
        return builder.input(name, TensorType(_symbols(name, declared), dtype))
    batch: Dimension = symbol("N", 1)
    if declared and len(declared) == len(given.dims) + 1 and declared[0] > 0:
        batch = declared[0]
    tensor = builder.input(name, TensorType((batch, *given.dims), dtype))
    if len(given.dims) != 3 or given.order == "NC":
        return tensor
    last = _stored_last(given, declared, channels_last)
    if given.order == "NCHW" and last:
        return transpose(builder, tensor, TO_LAST)
    return transpose(builder, tensor, TO_FIRST) if given.order == "NHWC" and not last else tensor


def _symbols(name: str, declared: Sequence[int]) -> tuple[Dimension, ...]:
    """Unknown dimensions become symbols, at least 1: the batch is that of all inputs."""
    if any(d < -1 for d in declared):
        raise ParseError(f"has the shape {list(declared)[:8]}; -1 stands for an unknown dimension")
    return tuple(
        d if d >= 0 else symbol("N" if not axis else f"{name}_{axis}", 1) for axis, d in enumerate(declared)
    )  # fmt: skip


def _stored_last(given: Registration, declared: Sequence[int] | None, channels_last: Callable[[], bool | None]) -> bool:
    """Whether the file's nodes read [N, H, W, C]."""
    c, h, w = given.dims if given.order == "NCHW" else (given.dims[2], *given.dims[:2])
    first, last = _matches((c, h, w), declared), _matches((h, w, c), declared)
    if first != last:
        return last
    found = channels_last()
    return given.order == "NHWC" if found is None else found


def _matches(dims: Sequence[int], declared: Sequence[int] | None) -> bool:
    if declared is None or len(declared) != len(dims) + 1:
        return False
    return all(b in (-1, a) for a, b in zip(dims, declared[1:], strict=True))


def first_answer(start: str, readers: Mapping[str, Sequence[str]], answer: Callable[[str], bool | None]) -> bool | None:
    """What the nearest node downstream says that says anything."""
    seen, level = {start}, [start]
    while level:
        following: list[str] = []
        for name in level:
            for reader in readers.get(name, ()):
                if reader in seen:
                    continue
                seen.add(reader)
                if (found := answer(reader)) is not None:
                    return found
                following.append(reader)
        level = following
    return None
