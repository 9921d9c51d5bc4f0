"""What the mappings of TensorFlow's operations read from nodes, and how channels come first and go back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor, known_values

from tenonrt_parser_uff.emit import chosen, integers, numbers, transpose

_FORMATS = {"NHWC": "last", "NDHWC": "last", "NWC": "last", "NCHW": "first", "NCDHW": "first", "NCW": "first"}


def channels_last(node: SourceNode) -> bool:
    """Whether ``data_format`` puts the channels last, as it does unless it is set."""
    return chosen(node, "data_format", _FORMATS, "NHWC") == "last"


def to_first(builder: GraphBuilder, x: Tensor) -> Tensor:
    """[N, *S, C] as [N, C, *S]."""
    rank = x.type.rank
    if rank < 3:
        raise ParseError(f"the input is {x.type}, expected rank 3 to 5")
    return transpose(builder, x, (0, rank - 1, *range(1, rank - 1)))


def to_last(builder: GraphBuilder, y: Tensor) -> Tensor:
    """[N, C, *S] as [N, *S, C]."""
    return transpose(builder, y, (0, *range(2, y.type.rank), 1))


def with_channels_first(
    builder: GraphBuilder, node: SourceNode, x: Tensor, compute: Callable[[Tensor], Tensor]
) -> Tensor:
    """The result, in the node's format, of what computes on [N, C, *S]."""
    if channels_last(node):
        return to_last(builder, compute(to_first(builder, x)))
    return compute(x)


def spatial(node: SourceNode, name: str, rank: int, values: Sequence[int] | None = None) -> tuple[int, ...]:
    """The entries of a list of one number per axis that are for spatial axes; the others must be 1."""
    given = numbers(node, name, (1,) * rank) if values is None else tuple(values)
    if len(given) != rank:
        raise ParseError(f"{name!r} has {len(given)} numbers for an input of rank {rank}")
    inner = given[1:-1] if channels_last(node) else given[2:]
    others = (given[0], given[-1] if channels_last(node) else given[1])
    if others != (1, 1):
        raise ParseError(f"{name!r} is {list(given)}; numbers other than 1 for batch or channels are not supported")
    return inner


def scalar(tensor: Tensor, what: str) -> int:
    """One integer that is known while the file is read."""
    found = integers(tensor, what)
    if len(found) != 1:
        raise ParseError(f"{what} must be one integer, found {tensor.type}")
    return found[0]


def known(tensor: Tensor) -> bool:
    """Whether the value of an integer tensor is known while the file is read, without symbols."""
    if tensor.constant is not None:
        return True
    values = known_values(tensor.info)
    return values is not None and all(isinstance(value, int) for value in values)
