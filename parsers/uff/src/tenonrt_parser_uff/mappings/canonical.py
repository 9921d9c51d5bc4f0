"""Operations whose tensors have dimension orders: they compute on canonical tensors, between transposes."""

from __future__ import annotations

from collections.abc import Callable

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_uff.emit import (
    Inputs,
    axis_of,
    check_count,
    chosen,
    given,
    integer,
    integers,
    number,
    numbers,
    single,
    text,
    transpose,
)
from tenonrt_parser_uff.orders import CANONICAL, Order, inverse, stored_axes
from tenonrt_parser_uff.windows import Window, convolve, deconvolve, groups_of, pool

_FUNCTIONS = {"max": "max", "avg": "average"}


def orders(node: SourceNode, name: str) -> tuple[Order, ...]:
    """A field of orders, none where it is not set."""
    value = node.attrs.get(name)
    if value is None:
        return ()
    if not isinstance(value, tuple) or not all(isinstance(order, tuple) for order in value):
        raise ParseError(f"{name!r} must be a list of dimension orders")
    return value


def input_order(node: SourceNode, index: int) -> Order:
    """That of one input; NC+ where the field does not reach it."""
    found = orders(node, "inputs_orders")
    return found[index] if index < len(found) else CANONICAL


def canonical(builder: GraphBuilder, node: SourceNode, inputs: Inputs, index: int, what: str) -> Tensor:
    """An input with its axes in canonical order."""
    tensor = given(inputs, index, what)
    return transpose(builder, tensor, inverse(stored_axes(input_order(node, index), tensor.type.rank)))


def stored(builder: GraphBuilder, node: SourceNode, tensor: Tensor) -> list[Tensor]:
    """A canonical result in the order of the output, by default that of the first input."""
    order = next(iter(orders(node, "outputs_orders")), input_order(node, 0))
    return [transpose(builder, tensor, stored_axes(order, tensor.type.rank))]


def alone(builder: GraphBuilder, node: SourceNode, inputs: Inputs, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """An operation with one input."""
    return stored(builder, node, compute(canonical(builder, node, inputs, 0, "input")))


def window(node: SourceNode) -> Window:
    """Strides, dilation and padding, and the implicit padding that overrides the latter."""
    implicit = text(node, "implicit_padding", "").lower()
    if implicit not in ("", "same", "valid"):
        raise ParseError(f"'implicit_padding' is {implicit[:40]!r}, expected 'same' or 'valid'")
    padding = () if implicit else numbers(node, "padding", ())
    return Window(
        numbers(node, "strides", ()), numbers(node, "dilation", ()), padding, padding, implicit == "same"
    )  # fmt: skip


def conv(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Number_groups over 1 with a kernel of all channels is a depthwise convolution; absent, the channels say it."""
    check_count(inputs, 2)
    kernel = canonical(builder, node, inputs, 1, "kernel")

    def compute(x: Tensor) -> Tensor:
        return convolve(builder, x, kernel, integer(node, "number_groups", groups_of(x, kernel)), window(node))

    return alone(builder, node, inputs, compute)


def conv_transpose(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """The shape input is that of the stored output, batch included; its spatial sizes are taken."""
    check_count(inputs, 3)
    # Canonical kernels are [K, C, *R], K of the output; layers take C, of the input, first.
    kernel = canonical(builder, node, inputs, 1, "kernel")
    if kernel.type.rank < 3:
        raise ParseError(f"the kernel is {kernel.type}, expected rank 3 to 5")
    kernel = transpose(builder, kernel, (1, 0, *range(2, kernel.type.rank)))
    rank = given(inputs, 0, "input").type.rank
    shape = integers(given(inputs, 2, "output shape"), "the output shape")
    if len(shape) != rank:
        raise ParseError(f"the output shape {shape} has not as many axes as the input, {rank}")
    order = next(iter(orders(node, "outputs_orders")), input_order(node, 0))
    sizes = tuple(shape[axis] for axis in inverse(stored_axes(order, rank)))[2:]
    groups = integer(node, "number_groups", 1)
    return alone(builder, node, inputs, lambda x: deconvolve(builder, x, kernel, sizes, groups, window(node)))


def pooling(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Averages leave padding out, as TensorFlow's do."""
    check_count(inputs, 1)
    function, size = chosen(node, "func", _FUNCTIONS), numbers(node, "kernel")
    return alone(builder, node, inputs, lambda x: pool(builder, function, x, size, window(node)))


def fully_connected(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """NC times KC; CN and CK are transposed first. The result is NK."""
    check_count(inputs, 2)
    x, weights = canonical(builder, node, inputs, 0, "left"), canonical(builder, node, inputs, 1, "right")
    if x.type.rank != 2 or weights.type.rank != 2:
        raise ParseError(f"matrices are expected, found {x.type} and {weights.type}")
    if weights.constant is not None:
        return [single(builder, "FullyConnected", [x, weights])]
    return [single(builder, "MatrixMultiply", [x, weights], {"transpose_b": True})]


def lrn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Across channels; the layer divides alpha by the window."""
    check_count(inputs, 1)
    attrs = {"window": integer(node, "window_size"), "alpha": number(node, "alpha"), "beta": number(node, "beta"),
             "k": number(node, "k", 1.0)}  # fmt: skip
    return alone(builder, node, inputs, lambda x: single(builder, "LRN", [x], attrs))


def batch_norm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Inputs 1 to 4 are vectors of one value per channel."""
    check_count(inputs, 5)
    gamma, beta, mean, variance = (
        given(inputs, i, what) for i, what in enumerate(("gamma", "beta", "mean", "variance"), start=1)
    )
    epsilon = {"epsilon": number(node, "epsilon")}
    return alone(
        builder, node, inputs,
        lambda x: single(builder, "BatchNormalization", [x, gamma, beta, mean, variance], epsilon),
    )  # fmt: skip


def softmax(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """Axis 0, which is what converters always write, means the axis of classes; others are counted with the batch."""
    check_count(inputs, 1)
    x, axis = given(inputs, 0, "input"), integer(node, "axis", 0)
    if axis == 0 and x.type.rank > 1:
        axis = stored_axes(input_order(node, 0), x.type.rank).index(1)
    return [single(builder, "Softmax", [x], {"axis": axis_of(axis, x.type.rank)})]
