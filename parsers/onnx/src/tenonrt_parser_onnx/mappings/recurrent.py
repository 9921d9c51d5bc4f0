"""LSTM, GRU and RNN. The layers take ONNX's inputs in ONNX's order and layouts."""

from __future__ import annotations

from typing import Any

from tenonrt.contracts import GraphBuilder, ParseError, SourceNode, Tensor

from tenonrt_parser_onnx.mappings.arguments import (
    Inputs,
    emit,
    flag,
    integer,
    numbers,
    optional_number,
    present,
    required,
    text,
    texts,
)


def _attributes(node: SourceNode, recurrence: Tensor) -> dict[str, Any]:
    hidden = recurrence.info.shape[-1] if recurrence.info.rank else None
    if "hidden_size" in node.attrs:
        hidden = integer(node, "hidden_size")
    if not isinstance(hidden, int):
        raise ParseError("attribute 'hidden_size' is missing, and R does not tell")
    return {
        "hidden_size": hidden,
        "direction": text(node, "direction", "forward", ("forward", "reverse", "bidirectional")),
        "activations": texts(node, "activations", ()),
        "alphas": numbers(node, "activation_alpha", ()),
        "betas": numbers(node, "activation_beta", ()),
        "clip": optional_number(node, "clip"),
        "layout": integer(node, "layout", 0),
    }


def _operands(inputs: Inputs, count: int) -> list[Tensor | None]:
    given = [required(inputs, index, name) for index, name in enumerate("XWR")]
    return [*given, *(present(inputs, index) for index in range(3, count))]


def lstm(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """X, W, R, B, sequence lengths, initial hidden state and cell, peepholes."""
    operands = _operands(inputs, 8)
    attrs = _attributes(node, required(inputs, 2, "R")) | {"input_forget": flag(node, "input_forget")}
    return list(emit(builder, node, "LSTM", operands, attrs))


def gru(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """X, W, R, B, sequence lengths, initial hidden state."""
    operands = _operands(inputs, 6)
    attrs = _attributes(node, required(inputs, 2, "R"))
    attrs["linear_before_reset"] = flag(node, "linear_before_reset")
    return list(emit(builder, node, "GRU", operands, attrs))


def rnn(builder: GraphBuilder, node: SourceNode, inputs: Inputs) -> list[Tensor]:
    """X, W, R, B, sequence lengths, initial hidden state."""
    operands = _operands(inputs, 6)
    return list(emit(builder, node, "RNN", operands, _attributes(node, required(inputs, 2, "R"))))
