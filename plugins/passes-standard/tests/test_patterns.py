"""Layers recognised from the parts that exporters write: what is left, and that it computes the same in float64."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAME = "standard_passes_examples"
if NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).with_name("test_passes.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
Example = sys.modules[NAME].Example


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# --- padding --------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(
    pads=st.tuples(*[st.integers(0, 2)] * 4), own=st.tuples(*[st.integers(0, 1)] * 4), axes=st.booleans(),
    mode=st.sampled_from(("explicit", "valid")),
)  # fmt: skip
def test_zeros_go_into_the_convolution(pads: Any, own: Any, axes: bool, mode: str) -> None:
    example = Example("fuse.padding")
    x = example.input(2, 3, 5, 6)
    given_axes = [None, ints(2, -1)] if axes else []
    amounts = ints(*pads) if axes else ints(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3])
    padded = example.add("Padding", x, amounts, *given_axes)
    padding = {"pre_padding": own[:2], "post_padding": own[2:]} if mode == "explicit" else {}
    example.output(
        example.add("Convolution", padded, example.normal(4, 3, 3, 3), example.normal(4), padding_mode=mode, **padding)
    )
    example.check("Convolution")


@pytest.mark.parametrize("why", ["channels", "value", "mode", "negative", "two readers", "same padding"])
def test_other_padding_stays(why: str) -> None:
    example = Example("fuse.padding")
    x = example.input(2, 3, 5, 6)
    amounts = {"channels": ints(0, 1, 0, 0, 0, 0, 0, 0), "negative": ints(0, 0, -1, 0, 0, 0, 0, 0)}
    value = [np.float32(2.0).reshape(())] if why == "value" else []
    attrs = {"mode": "edge"} if why == "mode" else {}
    padded = example.add("Padding", x, amounts.get(why, ints(0, 0, 1, 1, 0, 0, 1, 1)), *value, **attrs)
    channels = 4 if why == "channels" else 3
    mode = "same_upper" if why == "same padding" else "explicit"
    example.output(example.add("Convolution", padded, example.normal(4, channels, 3, 3), padding_mode=mode))
    if why == "two readers":
        example.output(padded)
    example.check("Padding", "Convolution")


def surrounded(example: Any, x: Any, value: float, pads: Any = (0, 1, 1, 0)) -> Any:
    amounts = ints(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3])
    return example.add("Padding", x, amounts, np.float32(value).reshape(()))


@settings(deadline=None, max_examples=15)
@given(
    function=st.sampled_from(("max", "max of positive", "average", "lp")), pads=st.tuples(*[st.integers(0, 2)] * 4),
    own=st.sampled_from((None, (0, 0), (1, 1))), size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
)  # fmt: skip
def test_what_surrounds_an_image_goes_into_the_pooling(function: str, pads: Any, own: Any, size: Any) -> None:
    example = Example("fuse.pooling_padding")
    x, value = example.input(2, 3, *size), -np.inf if function == "max" else 0.0
    positive = function == "max of positive"
    y = surrounded(example, example.add("Activation", x, function="relu") if positive else x, value, pads)
    padding = {"padding_mode": "valid"} if own is None else {"pre_padding": own, "post_padding": (0, 0)}
    counts = function == "average" and own == (1, 1)
    example.output(
        example.add("Pooling", y, function=function.split(maxsplit=1)[0], window=(4, 4), stride=(2, 1), **padding,
                    count_includes_padding=counts)
    )  # fmt: skip
    example.check(*["Activation"] * positive, "Pooling")


@pytest.mark.parametrize(
    "why", ["negative values", "wide", "dilation", "ceil", "indices", "counted", "blend", "value", "same padding"]
)
def test_other_padding_before_a_pooling_stays(why: str) -> None:
    example = Example("fuse.pooling_padding")
    attrs: dict[str, Any] = {
        "negative values": {"function": "max"},
        "dilation": {"function": "max", "dilation": (2, 1)},
        "ceil": {"function": "average", "ceil": True},
        "indices": {"function": "max", "with_indices": True},
        "counted": {"function": "average", "pre_padding": (1, 1), "post_padding": (1, 1)},
        "blend": {"function": "max_average_blend", "blend": 0.5},
        "same padding": {"function": "lp", "padding_mode": "same_upper"},
    }.get(why, {"function": "lp"})
    value = {"dilation": -np.inf, "indices": -np.inf, "value": 1.0}.get(why, 0.0)
    y = surrounded(example, example.input(2, 3, 6, 7), value, (3, 0, 0, 0) if why == "wide" else (1, 1, 1, 1))
    found = example.add("Pooling", y, window=(3, 3), **attrs)
    example.output(found[0] if why == "indices" else found)
    example.check("Padding", "Pooling")


# --- reductions -----------------------------------------------------------------------------------------------------


def square(example: Any, x: Any, power: bool) -> Any:
    if power:
        return example.add("Elementwise", x, floats(2.0).reshape(()), operation="pow")
    return example.add("Elementwise", x, x, operation="prod")


@pytest.mark.parametrize("keep_dims", [True, False])
@pytest.mark.parametrize("name", ["l1", "sum_square", "power", "l2", "log_sum", "log_sum_exp"])
def test_norms_are_recognised(name: str, keep_dims: bool) -> None:
    example = Example("fuse.reductions")
    y = x = example.input(3, 4, 5)
    if name == "l1":
        y = example.add("Unary", x, operation="abs")
    elif name in ("sum_square", "power", "l2"):
        y = square(example, x, name == "power")
    elif name == "log_sum_exp":
        y = example.add("Unary", x, operation="exp")
    else:
        example.feeds[x.name] = np.abs(example.feeds[x.name]) + 1
    y = example.add("Reduce", y, operation="sum", axes=(1, -1), keep_dims=keep_dims)
    if name == "l2" or name.startswith("log"):
        y = example.add("Unary", y, operation="sqrt" if name == "l2" else "log")
    example.output(y)
    example.check("Reduce")
    assert example.network.layers[0].attrs.operation == ("sum_square" if name == "power" else name)


def test_parts_that_somebody_else_reads_stay() -> None:
    example = Example("fuse.reductions")
    absolute = example.add("Unary", example.input(3, 4), operation="abs")
    example.output(example.add("Reduce", absolute, operation="sum"), absolute)
    example.check("Unary", "Reduce")


# --- normalization --------------------------------------------------------------------------------------------------


def normalized(example: Any, x: Any, axes: tuple[int, ...], power: bool, reciprocal: bool, epsilon: Any = None) -> Any:
    mean = example.add("Reduce", x, operation="mean", axes=axes)
    centred = example.add("Elementwise", x, mean, operation="sub")
    variance = example.add("Reduce", square(example, centred, power), operation="mean", axes=axes)
    shifted = example.add("Elementwise", variance, floats(1e-3) if epsilon is None else epsilon, operation="sum")
    root = example.add("Unary", shifted, operation="sqrt")
    if reciprocal:
        inverse = example.add("Unary", root, operation="recip")
        return example.add("Elementwise", inverse, centred, operation="prod")
    return example.add("Elementwise", centred, root, operation="div")


@pytest.mark.parametrize("axes", [(-1,), (1, 2)])
@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("reciprocal", [True, False])
def test_layer_normalization_is_recognised(axes: tuple[int, ...], power: bool, reciprocal: bool) -> None:
    example = Example("fuse.layer_normalization", "fuse.normalization_affine")
    y = normalized(example, example.input(3, 4, 5), axes, power, reciprocal)
    y = example.add("Elementwise", y, example.normal(5), operation="prod")
    y = example.add("Elementwise", example.normal(4, 5), y, operation="sum")
    example.output(y)
    example.check("LayerNormalization")


@pytest.mark.parametrize("why", ["first axis", "other axes", "two epsilons", "mean is read"])
def test_what_only_looks_like_layer_normalization_stays(why: str) -> None:
    example = Example("fuse.layer_normalization")
    x = example.input(3, 4, 5)
    if why == "other axes":
        mean = example.add("Reduce", x, operation="mean", axes=(2,))
        centred = example.add("Elementwise", x, mean, operation="sub")
        variance = example.add("Reduce", square(example, centred, True), operation="mean", axes=(1, 2))
        shifted = example.add("Elementwise", variance, floats(1e-3), operation="sum")
        y = example.add("Elementwise", centred, example.add("Unary", shifted, operation="sqrt"), operation="div")
    else:
        epsilon = floats(1e-3, 1.0, 2.0, 3.0).reshape(4, 1) if why == "two epsilons" else None
        y = normalized(example, x, (0,) if why == "first axis" else (2,), True, False, epsilon)
    example.output(y)
    before = [layer.kind for layer in example.network.layers]
    if why == "mean is read":
        example.output(example.network.layers[0].outputs[0])
        example.check("Reduce", "LayerNormalization")
    else:
        example.check(*before)


def test_a_shift_before_a_factor_is_not_taken_along() -> None:
    example = Example("fuse.normalization_affine")
    y = example.add("LayerNormalization", example.input(3, 5))
    y = example.add("Elementwise", y, example.normal(5), operation="sum")
    example.output(example.add("Elementwise", y, example.normal(5), operation="prod"))
    example.check("LayerNormalization", "Elementwise")


# --- softmax --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximum", [True, False])
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("axis", [1, -1])
def test_softmax_is_recognised(maximum: bool, log: bool, axis: int) -> None:
    example = Example("fuse.softmax")
    y = x = example.input(3, 4, 5)
    if maximum:
        y = example.add("Elementwise", x, example.add("Reduce", x, operation="max", axes=(axis,)), operation="sub")
    powers = example.add("Unary", y, operation="exp")
    total = example.add("Reduce", powers, operation="sum", axes=(axis,))
    y = example.add("Elementwise", powers, total, operation="div")
    example.output(example.add("Unary", y, operation="log") if log else y)
    example.check("Softmax")


@pytest.mark.parametrize("why", ["two axes", "other powers", "the wrong way"])
def test_what_is_no_softmax_stays(why: str) -> None:
    example = Example("fuse.softmax")
    x = example.input(3, 4, 5)
    powers = example.add("Unary", x, operation="exp")
    other = example.add("Unary", example.input(3, 4, 5), operation="exp") if why == "other powers" else powers
    total = example.add("Reduce", other, operation="sum", axes=(1, 2) if why == "two axes" else (2,))
    operands = (total, powers) if why == "the wrong way" else (powers, total)
    example.output(example.add("Elementwise", *operands, operation="div"))
    example.check(*[layer.kind for layer in example.network.layers])


# --- scales ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["uniform", "channel", "elementwise"])
@pytest.mark.parametrize("given_parameters", ["shift", "scale", "both", "power"])
def test_scales_become_elementwise_layers(mode: str, given_parameters: str) -> None:
    example = Example("tidy.scales")
    x = example.input(2, 3, 4)
    example.feeds[x.name] = np.abs(example.feeds[x.name])
    shape = {"uniform": (1,), "channel": (3,), "elementwise": (3, 4)}[mode]
    parameters = {name: np.abs(example.normal(*shape)) + 0.5 for name in ("shift", "scale", "power")}
    several = {"both": ("shift", "scale"), "power": ("shift", "scale", "power")}
    wanted = several.get(given_parameters, (given_parameters,))
    chosen = [parameters[name] if name in wanted else None for name in parameters]
    example.output(example.add("Scale", x, *chosen, mode=mode))
    example.check(*["Elementwise"] * len(wanted))


def test_scales_by_computed_parameters_stay() -> None:
    example = Example("tidy.scales")
    example.output(example.add("Scale", example.input(2, 3), example.input(1)))
    example.check("Scale")


# --- concatenations -------------------------------------------------------------------------------------------------


def test_concatenations_of_everything_before_become_a_chain() -> None:
    example = Example("tidy.concatenations")
    parts = [example.input(1, 2, 3) for _ in range(4)]
    joined = [example.add("Concatenation", *parts[:count], axis=1 if count % 2 else -2) for count in (2, 3, 4)]
    example.output(*joined)
    example.check("Concatenation", "Concatenation", "Concatenation")
    assert [len(layer.inputs) for layer in example.network.layers] == [2, 2, 2]


@pytest.mark.parametrize("why", ["axis", "order"])
def test_concatenations_that_begin_otherwise_stay(why: str) -> None:
    example = Example("tidy.concatenations")
    a, b, c = (example.input(2, 2, 2) for _ in range(3))
    first = example.add("Concatenation", *((b, a) if why == "order" else (a, b)), axis=0 if why == "axis" else 1)
    example.output(first, example.add("Concatenation", a, b, c, axis=1))
    example.check("Concatenation", "Concatenation")
    assert [len(layer.inputs) for layer in example.network.layers] == [2, 3]


# --- splits and swishes ---------------------------------------------------------------------------------------------


def test_what_is_split_and_joined_again_is_joined_whole() -> None:
    """As in the blocks of YOLOv8; what one part is read for besides stays."""
    example = Example("tidy.splits")
    a, b = example.add("Split", example.input(2, 6, 4), axis=1, parts=2)
    more = example.add("Unary", b, operation="exp")
    example.output(example.add("Concatenation", example.input(2, 1, 4), a, b, more, axis=-2))
    example.check("Split", "Unary", "Concatenation")
    assert [t.type.shape[1] for t in example.network.layers[-1].inputs] == [1, 6, 3]


@pytest.mark.parametrize("why", ["axis", "order", "part"])
def test_parts_of_splits_that_are_joined_otherwise_stay(why: str) -> None:
    example = Example("tidy.splits")
    a, b = example.add("Split", example.input(2, 4), axis=0 if why == "axis" else 1, parts=2)
    joined = {"axis": (a, b), "order": (b, a), "part": (a,)}[why]
    example.output(example.add("Concatenation", *joined, axis=1))
    kept = [*joined]
    example.check("Split", "Concatenation")
    assert [*example.network.layers[-1].inputs] == kept


@pytest.mark.parametrize("flipped", [False, True])
def test_a_product_with_the_own_sigmoid_is_a_swish(flipped: bool) -> None:
    example = Example("fuse.swish")
    x = example.convolution(example.input(1, 3, 6, 5))
    gate = example.add("Activation", x, function="sigmoid")
    example.output(example.add("Elementwise", *((gate, x) if flipped else (x, gate)), operation="prod"))
    example.check("Convolution", "Activation")
    assert example.network.layers[-1].attrs.function == "swish"


@pytest.mark.parametrize("why", ["operation", "function", "reader", "other"])
def test_other_products_are_no_swishes(why: str) -> None:
    example = Example("fuse.swish")
    x, y = example.input(2, 3), example.input(2, 3)
    gate = example.add("Activation", y if why == "other" else x, function="tanh" if why == "function" else "sigmoid")
    made = example.add("Elementwise", x, gate, operation="sum" if why == "operation" else "prod")
    example.output(made, *([gate] if why == "reader" else []))
    example.check("Activation", "Elementwise")


# --- transposed reductions ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    order=st.permutations(range(4)),
    axes=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
    keep_dims=st.booleans(),
)
def test_reductions_come_before_transposes(order: list[int], axes: list[int], keep_dims: bool) -> None:
    example = Example("tidy.transposed_reductions")
    transposed = example.add("Transpose", example.input(2, 3, 4, 5), permutation=tuple(order))
    example.output(example.add("Reduce", transposed, operation="sum", axes=tuple(axes), keep_dims=keep_dims))
    kinds = [layer.kind for layer in example.network.layers]
    before = example.run()
    from tenonrt.graph.passes import run_passes

    run_passes(example.network.graph, example.network.registry)
    assert kinds == ["Transpose", "Reduce"]
    assert [layer.kind for layer in example.network.layers] in (["Reduce"], ["Reduce", "Transpose"])
    np.testing.assert_allclose(example.run()[0], before[0], rtol=1e-12)


# --- local response normalization -----------------------------------------------------------------------------------


def normalized_response(example: Any, shape: Any, before: int, after: int, **changes: Any) -> None:
    """As PyTorch's module is exported: the channels between an axis of one and pixels in a row."""
    x = example.input(*shape)
    square = example.add("Elementwise", x, x, operation="prod")
    pixels = (shape[2], int(np.prod(shape[3:]))) if len(shape) > 3 else shape[2:]
    spread = example.add("Reshape", square, ints(shape[0], 1, shape[1], *pixels))
    zeros = (0,) * len(pixels)
    attrs = {"function": "average", "count_includes_padding": True, "pre_padding": (before, *zeros),
             "post_padding": (after, *zeros)}  # fmt: skip
    window = (before + after + 1, *(1,) * len(pixels))
    mean = example.add("Pooling", spread, window=window, **{**attrs, **changes.get("pooling", {})})
    total = example.add("Squeeze", mean, axes=(1,))
    if len(shape) > 4:
        total = example.add("Reshape", total, ints(*shape))
    for operation, number in (("prod", 0.3), ("sum", 1.5), ("pow", 0.6)):
        total = example.add("Elementwise", total, np.float32(number).reshape(()), operation=operation)
    example.output(
        example.add("Elementwise", changes.get("numerator", lambda x, _: x)(x, square), total, operation="div")
    )


@settings(deadline=None, max_examples=15)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), channels=st.integers(1, 9), size=st.integers(1, 6),
)  # fmt: skip
def test_squares_averaged_over_channels_are_a_local_response(shape: list[int], channels: int, size: int) -> None:
    example = Example("fuse.response_normalization")
    normalized_response(example, (2, channels, *shape), (size - 1) // 2, size // 2)
    example.check("LRN")


@pytest.mark.parametrize("why", ["to one side", "padding does not count", "maxima", "other numerator"])
def test_other_averages_are_no_local_responses(why: str) -> None:
    example = Example("fuse.response_normalization")
    pooling = {"padding does not count": {"count_includes_padding": False}, "maxima": {"function": "max"}}.get(why, {})
    sides = (2, 1) if why == "to one side" else (1, 1)
    other = {"numerator": lambda x, square: square} if why == "other numerator" else {}
    normalized_response(example, (2, 6, 3, 4), *sides, pooling=pooling, **other)
    kinds = [layer.kind for layer in example.network.layers]
    example.check(*kinds)
    assert "LRN" not in kinds


def test_a_local_response_is_found_where_its_padding_was_a_layer() -> None:
    example = Example("fuse.pooling_padding", "fuse.response_normalization")
    x = example.input(2, 7, 3, 4)
    y = example.add("Reshape", example.add("Elementwise", x, x, operation="prod"), ints(2, 1, 7, 3, 4))
    y = example.add("Padding", y, ints(0, 0, 2, 0, 0, 0, 0, 2, 0, 0))
    y = example.add("Squeeze", example.add("Pooling", y, function="average", window=(5, 1, 1)), axes=(1,))
    for operation, number in (("prod", 0.3), ("sum", 1.5), ("pow", 0.75)):
        y = example.add("Elementwise", y, np.float32(number).reshape(()), operation=operation)
    example.output(example.add("Elementwise", x, y, operation="div"))
    example.check("LRN")
