"""LSTM and RNN over sequences that begin where the second bottom says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tenonrt.contracts import Array, GraphBuilder, ParseError, SourceNode, Tensor, TensorType

from tenonrt_parser_caffe.mappings.operands import (
    Inputs,
    binary,
    bottoms,
    filler,
    merged,
    one,
    positive,
    rank,
    reshape,
    sizes,
)


@dataclass(frozen=True)
class Sequence:
    """The bottoms: x [T, N, features], cont [T, N, 1] (0 where a sequence begins), a static input, initial states."""

    x: Tensor
    cont: Tensor
    static: Tensor | None
    states: list[Tensor]
    batch: int
    size: int


def lstm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """c = cont f c + i g, h = o tanh(c), the gates of x and of cont h; their order is i, f, o, g."""
    given = _read(builder, node, inputs, 2)
    gates, recurrent = _projected(builder, node, given, 4)
    states: list[Tensor | Array] = [*given.states] or [_zeros(given), _zeros(given)]

    def step(body: GraphBuilder, h: Tensor, c: Tensor, x: Tensor, cont: Tensor) -> list[Tensor]:
        sums = binary(body, "sum", x, one(body.add("FullyConnected", [binary(body, "prod", h, cont), recurrent])))
        i, f, o, g = body.add("Split", [sums], {"axis": 1, "parts": 4})
        i, f, o = (one(body.add("Activation", [gate], {"function": "sigmoid"})) for gate in (i, f, o))
        g = one(body.add("Activation", [g], {"function": "tanh"}))
        kept = binary(body, "prod", binary(body, "prod", f, cont), c)
        c = binary(body, "sum", kept, binary(body, "prod", i, g))
        h = binary(body, "prod", o, one(body.add("Activation", [c], {"function": "tanh"})))
        return [h, c, one(body.add("Identity", [h]))]

    body = _body(builder, given, gates, 2, step)
    h, c, outputs = builder.add("Scan", [*states, gates, given.cont], {"num_scan_inputs": 2}, graphs=[body])
    return _results(builder, node, given, outputs, [h, c])


def rnn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """h = tanh(W x + b + W cont h), o = tanh(W h + b)."""
    given = _read(builder, node, inputs, 1)
    gates, recurrent = _projected(builder, node, given, 1)
    place = 3 + (given.static is not None)
    weights, bias = filler(node, "weight_filler"), filler(node, "bias_filler")
    blobs = node.attrs["blobs"]
    out = blobs.take(place, (given.size, given.size), weights, "xavier")
    out_bias = blobs.take(place + 1, (given.size,), bias, "constant")

    def step(body: GraphBuilder, h: Tensor, x: Tensor, cont: Tensor) -> list[Tensor]:
        sums = binary(body, "sum", x, one(body.add("FullyConnected", [binary(body, "prod", h, cont), recurrent])))
        h = one(body.add("Activation", [sums], {"function": "tanh"}))
        o = one(body.add("FullyConnected", [h, out, out_bias]))
        return [h, one(body.add("Activation", [o], {"function": "tanh"}))]

    body = _body(builder, given, gates, 1, step)
    states: list[Tensor | Array] = [*given.states] or [_zeros(given)]
    h, outputs = builder.add("Scan", [*states, gates, given.cont], {"num_scan_inputs": 2}, graphs=[body])
    return _results(builder, node, given, outputs, [h])


def _read(builder: GraphBuilder, node: SourceNode, inputs: Inputs, states: int) -> Sequence:
    """Sort the bottoms out."""
    exposed = states if node.attrs["expose_hidden"] else 0
    x, cont, *rest = bottoms(inputs, 2 + exposed, 3 + exposed)
    size = positive(node, "num_output")
    static = rest.pop(0) if len(rest) > exposed else None
    if rank(x) < 2 or rank(cont) != 2 or cont.type.shape != x.type.shape[:2]:
        raise ParseError(f"bottoms are {x.type} and {cont.type}; they must be [T, N, ...] and [T, N]")
    steps, batch = sizes(x, 0, 2)
    if steps < 1:
        raise ParseError(f"the bottom {x.type} has no time steps")
    if static is not None and (rank(static) < 1 or static.type.shape[0] != batch):
        raise ParseError(f"the static bottom is {static.type}; it needs {batch} rows")
    for state in rest:
        if state.type.shape != (1, batch, size):
            raise ParseError(f"an initial state is {state.type}; it must be [1, {batch}, {size}]")
    features = merged(sizes(x, 2))
    flat = reshape(builder, x, (steps, batch, features))
    column = reshape(builder, cont, (steps, batch, 1))
    return Sequence(flat, column, static, [reshape(builder, s, (batch, size)) for s in rest], batch, size)


def _projected(builder: GraphBuilder, node: SourceNode, given: Sequence, gates: int) -> tuple[Tensor, Array]:
    """W x + b of all steps at once, with the static input's share, and the recurrent weights."""
    blobs, rows = node.attrs["blobs"], gates * given.size
    weights, bias = filler(node, "weight_filler"), filler(node, "bias_filler")
    (features,) = sizes(given.x, 2)
    operands = [blobs.take(0, (rows, features), weights, "xavier"), blobs.take(1, (rows,), bias, "constant")]
    found, place = one(builder.add("FullyConnected", [given.x, *operands])), 2
    if given.static is not None:
        flat = reshape(builder, given.static, (given.batch, merged(sizes(given.static, 1))))
        static = blobs.take(2, (rows, *sizes(flat, 1)), weights, "xavier")
        found, place = binary(builder, "sum", found, one(builder.add("FullyConnected", [flat, static]))), 3
    return found, blobs.take(place, (rows, given.size), weights, "xavier")


def _zeros(given: Sequence) -> Array:
    return np.zeros((given.batch, given.size), np.float32)


def _body(builder: GraphBuilder, given: Sequence, gates: Tensor, states: int, step: object) -> GraphBuilder:
    """The graph of one step: states, the gates' share of x, and cont, to states and the output."""
    assert callable(step)
    body = builder.subgraph("step")
    shapes = [(given.batch, given.size)] * states + [sizes(gates, 1), (given.batch, 1)]
    operands = [body.input(f"operand{i}", TensorType(shape)) for i, shape in enumerate(shapes)]
    for index, tensor in enumerate(step(body, *operands)):
        body.output(tensor, f"result{index}")
    return body


def _results(
    builder: GraphBuilder, node: SourceNode, given: Sequence, outputs: Tensor, states: list[Tensor]
) -> list[Tensor]:
    if not node.attrs["expose_hidden"]:
        return [outputs]
    return [outputs, *(reshape(builder, state, (1, given.batch, given.size)) for state in states)]
