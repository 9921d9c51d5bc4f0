"""A transformer encoder over token ids with a padding mask."""

from __future__ import annotations

import numpy as np
from networks.writer import Writer
from onnx import TensorProto

TOKENS, WIDTH, HEADS, WORDS = 8, 16, 2, 50
INPUT = (TOKENS,)


def normalized(w: Writer, x: str) -> str:
    scale = w.initializer(w.rng.uniform(0.5, 1.5, WIDTH).astype(np.float32))
    bias = w.weight(WIDTH, scale=0.1)
    return w.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=1e-12)


def gelu(w: Writer, x: str) -> str:
    if not w.traced:
        return w.node("Gelu", [x], approximate="none")
    error = w.node("Erf", [w.node("Div", [x, w.constant(2**0.5)])])
    product = w.node("Mul", [x, w.node("Add", [error, w.constant(1.0)])])
    return w.node("Mul", [product, w.constant(0.5)])


def heads(w: Writer, x: str, order: list[int]) -> str:
    size = WIDTH // HEADS
    return w.node("Transpose", [w.batch_first(w.projection(x, WIDTH, WIDTH), TOKENS, HEADS, size)], perm=order)


def attention(w: Writer, x: str, mask: str) -> str:
    query, key, value = (heads(w, x, order) for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    scale = (WIDTH // HEADS) ** -0.25
    scores = w.node("MatMul", [w.node("Mul", [query, w.constant(scale)]), w.node("Mul", [key, w.constant(scale)])])
    weights = w.node("Softmax", [w.node("Add", [scores, mask])], axis=-1)
    weights = w.node("Where", [w.node("IsNaN", [weights]), w.constant(0.0), weights])
    mixed = w.node("Transpose", [w.node("MatMul", [weights, value])], perm=[0, 2, 1, 3])
    return w.projection(w.batch_first(mixed, TOKENS, WIDTH), WIDTH, WIDTH)


def additive_mask(w: Writer, mask: str) -> str:
    """0 where tokens may be attended to, the least float elsewhere: [batch, 1, 1, tokens]."""
    flags = w.node("Cast", [mask], to=TensorProto.BOOL)
    if w.traced:
        flags = w.node("Unsqueeze", [w.node("Unsqueeze", [flags, w.ints(1)]), w.ints(2)])
    elif isinstance(w.batch, int):
        indices = np.array([[[[[b, t] for t in range(TOKENS)]]] for b in range(w.batch)], np.int64)
        flags = w.node("GatherND", [flags, w.initializer(indices)], batch_dims=0)
        flags = w.node("And", [flags, w.constant(np.ones((1, 1, TOKENS, TOKENS)), np.bool_)])
    else:
        indices = np.arange(TOKENS, dtype=np.int64).reshape(-1, 1)  # the same of every row, by the transposed flags
        rows = w.node("GatherND", [w.node("Transpose", [flags], perm=[1, 0]), w.initializer(indices)], batch_dims=0)
        flags = w.node("Unsqueeze", [w.node("Transpose", [rows], perm=[1, 0]), w.ints(1, 2)])
    return w.node("Where", [flags, w.constant(0.0), w.constant(np.finfo(np.float32).min)])


def layer(w: Writer, x: str, mask: str) -> str:
    x = normalized(w, w.node("Add", [attention(w, x, mask), x]))
    y = w.projection(gelu(w, w.projection(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)
    return normalized(w, w.node("Add", [y, x]))


def build(w: Writer) -> None:
    ids = w.input("input_ids", INPUT, TensorProto.INT64)
    mask = w.input("attention_mask", INPUT, TensorProto.INT64)
    kinds = w.input("token_type_ids", INPUT, TensorProto.INT64)
    places = w.node("Gather", [w.weight(12, WIDTH, scale=1), w.ints(*range(TOKENS))], axis=0)
    x = w.node("Gather", [w.weight(WORDS, WIDTH, scale=1), ids], axis=0)
    x = w.node("Add", [x, w.node("Gather", [w.weight(2, WIDTH, scale=1), kinds], axis=0)])
    x, mask = normalized(w, w.node("Add", [x, places])), additive_mask(w, mask)
    for _ in range(2):
        x = layer(w, x, mask)
    w.output(x, rank=3)
