"""Transposes to channels last on their way down: where they go, and that networks compute the same."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tenonrt.contracts import symbol


def _load(name: str) -> Any:
    """The module beside this one, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


Example = _load("test_passes").Example
N = symbol("N", 1, 8)
PASSES = ("fold.layouts", "fold.transposes", "clean.dead_layers", "clean.identities")


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def last(e: Any, x: Any) -> Any:
    return e.add("Transpose", x, permutation=(0, 2, 3, 1))


def conv(e: Any, x: Any) -> Any:
    """A convolution of channels last that keeps four channels and sizes."""
    first = e.add("Transpose", x, permutation=(0, 3, 1, 2))
    return last(e, e.add("Convolution", first, e.normal(4, 4, 3, 3), padding_mode="same_upper"))


# What is between two convolutions, in which channels are last.
BETWEEN: dict[str, Callable[[Any, Any], Any]] = {
    "activation": lambda e, y: e.add("Activation", y, function="relu"),
    "unary": lambda e, y: e.add("Unary", y, operation="abs"),
    "bias": lambda e, y: e.add("Elementwise", y, e.normal(4), operation="sum"),
    "bias on the left": lambda e, y: e.add("Elementwise", e.normal(1, 1, 4), y, operation="sub"),
    "scalar": lambda e, y: e.add("Elementwise", y, np.float32(2), operation="prod"),
    "image of constants": lambda e, y: e.add("Elementwise", y, e.normal(5, 6, 4), operation="sum"),
    "swish": lambda e, y: e.add("Elementwise", y, e.add("Activation", y, function="sigmoid"), operation="prod"),
    "residual": lambda e, y: e.add("Elementwise", y, conv(e, y), operation="sum"),
    "slopes": lambda e, y: e.add("ParametricRelu", y, e.normal(4)),
    "select": lambda e, y: e.add("Select", e.add("Elementwise", y, np.float32(0), operation="less"), y,
                                 e.add("Unary", y, operation="neg")),
    "concatenation": lambda e, y: conv_of(e, e.add("Concatenation", y, conv(e, y), axis=3), 8),
    "concatenated rows": lambda e, y: e.add("Concatenation", y, y, axis=1),
    "padding": lambda e, y: e.add("Padding", y, ints(0, 1, 0, 0, 0, 0, 2, 0)),
    "padding of axes": lambda e, y: e.add("Padding", y, ints(1, 2), None, ints(-2)),
    "slice": lambda e, y: e.add("Slice", y, ints(1), ints(4), ints(2)),
    "slice of the first axes": lambda e, y: e.add("Slice", y, ints(0, 1), ints(9, 4)),
    "softmax": lambda e, y: e.add("Softmax", y, axis=-1),
    "split": lambda e, y: e.add("Elementwise", *e.add("Split", y, axis=2, parts=2), operation="sum"),
    "squeeze and excite": lambda e, y: excite(e, y, kept=True),
    "squeeze and excite by reshaping": lambda e, y: excite(e, y, kept=False),
}  # fmt: skip


def conv_of(e: Any, x: Any, channels: int) -> Any:
    first = e.add("Transpose", x, permutation=(0, 3, 1, 2))
    return last(e, e.add("Convolution", first, e.normal(4, channels, 1, 1)))


def excite(e: Any, y: Any, kept: bool) -> Any:
    mean = e.add("Reduce", y, operation="mean", axes=(1, 2), keep_dims=kept)
    if not kept:
        gate = e.add("FullyConnected", mean, e.normal(4, 4))
        mean = e.add("Reshape", gate, ints(-1, 1, 1, 4), zero_copies=False)
    return e.add("Elementwise", y, e.add("Activation", mean, function="sigmoid"), operation="prod")


@pytest.mark.parametrize("name", BETWEEN)
def test_nothing_is_transposed_between_convolutions(name: str) -> None:
    e = Example(*PASSES)
    y = conv(e, BETWEEN[name](e, conv(e, e.input(N, 5, 6, 4))))
    e.output(y)
    check(e, 2)


def check(e: Any, count: int) -> None:
    """As many transposes are left, and the results are the same."""
    from tenonrt.graph.passes import run_passes

    before = e.run()
    assert not run_passes(e.network.graph, e.network.registry).quarantined
    for old, new in zip(before, e.run(), strict=True):
        assert old.shape == new.shape
        np.testing.assert_allclose(new, old, 1e-5, 1e-5)
    assert sum(layer.kind == "Transpose" for layer in e.network.layers) == count


ENDS: dict[str, Callable[[Any, Any], Any]] = {
    "mean of images": lambda e, y: e.add("Reduce", y, operation="mean", axes=(1, 2), keep_dims=False),
    "largest channel": lambda e, y: e.add("ArgReduce", y, axis=3, keep_dims=False),
    "sum of all": lambda e, y: e.add("Reduce", y, operation="sum", keep_dims=False),
    "squeeze": lambda e, y: e.add("Squeeze", e.add("Reduce", y, operation="max", axes=(1, 2)), axes=(1, 2)),
    "flatten": lambda e, y: e.add("Flatten", e.add("Reduce", y, operation="max", axes=(1, 2))),
    "reshape": lambda e, y: e.add("Reshape", e.add("Reduce", y, operation="max", axes=(1, 2)), ints(-1, 2, 2)),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_has_no_image_left_needs_no_transpose(name: str) -> None:
    e = Example(*PASSES)
    e.output(ENDS[name](e, conv(e, e.input(2, 5, 6, 4))))
    check(e, 1)


def test_rows_reduced_leave_one_behind() -> None:
    e = Example(*PASSES)
    e.output(e.add("Reduce", conv(e, e.input(2, 5, 6, 4)), operation="sum", axes=(1,), keep_dims=False))
    check(e, 2)


def test_weights_take_the_order_of_a_flattened_image() -> None:
    e = Example(*PASSES, "fold.flattened")
    y = e.add("Activation", conv(e, e.input(N, 5, 6, 4)), function="relu")
    flat = e.add("Reshape", y, ints(-1, 120), zero_copies=False)
    e.output(e.add("FullyConnected", flat, e.normal(7, 120), e.normal(7)))
    check(e, 1)


STAYS: dict[str, Callable[[Any, Any], Any]] = {
    "a reader that needs it": lambda e, y: (e.add("Activation", y, function="relu"),
                                            e.add("Reshape", y, ints(-1, 12))),
    "an output": lambda e, y: (y, e.add("Activation", y, function="relu")),
    "another tensor": lambda e, y: (e.add("Elementwise", y, e.input(2, 5, 6, 4), operation="sum"),),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_where_it_would_not_go_away_it_stays(name: str) -> None:
    e = Example(*PASSES)
    e.output(*STAYS[name](e, conv(e, e.input(2, 5, 6, 4))))
    check(e, 2)


def test_permutations_of_other_layers_are_left_alone() -> None:
    """The keys of an attention are put in the same order, and are no image."""
    e = Example(*PASSES)
    heads = e.add("Reshape", e.input(2, 5, 24), ints(0, 0, 4, 6))
    e.output(e.add("Unary", last(e, heads), operation="abs"))
    assert not e.check("Reshape", "Transpose", "Unary")
