"""Quantize and Dequantize layers after the passes: where they are, and that the network computes the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import tenonrt
from tenonrt.contracts import numpy_dtype
from tenonrt.graph.passes import run_passes

SCALE, ZERO = np.float32(0.1), np.array(3, np.uint8)


def passed(network: tenonrt.Network) -> Counter[str]:
    log = run_passes(network.graph, network.registry)
    assert not log.quarantined
    return Counter(layer.kind for layer in network.layers)


def dequantized(network: tenonrt.Network, zero: Any = ZERO, scale: Any = SCALE, name: str = "x") -> Any:
    return network.add_dequantize(network.add_input(name, (1, 4, 6, 6), "uint8"), scale, zero)


def computed(network: tenonrt.Network, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tenonrt.compile(network, optimization_level=0).create_context().execute(feed)


def test_every_reader_has_a_dequantize_of_its_own() -> None:
    def define() -> tenonrt.Network:
        network = tenonrt.Network("shared")
        x = dequantized(network)
        weights = np.ones((4, 4, 1, 1), np.float32)
        network.mark_output(network.add_convolution(x, weights), "a")
        network.mark_output(network.add_convolution(x, weights * 2), "b")
        return network

    network = define()
    assert passed(network)["Dequantize"] == 2
    x = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)
    found = computed(define(), {"x": x})
    real = (x.astype(np.float64) - 3) * 0.1
    assert np.allclose(found["a"], real.sum(axis=1, keepdims=True), atol=1e-4)
    assert np.allclose(found["b"], 2 * found["a"], atol=1e-4)


def test_zero_points_of_zero_are_dropped() -> None:
    network = tenonrt.Network("zero")
    network.mark_output(dequantized(network, np.array(0, np.uint8)), "y")
    passed(network)
    assert network.layers[0].inputs[2] is None
    network = tenonrt.Network("three")
    network.mark_output(dequantized(network), "y")
    passed(network)
    assert network.layers[0].inputs[2] is not None


def test_maxima_and_moves_are_taken_of_integers() -> None:
    def define(zero: Any = ZERO) -> tenonrt.Network:
        network = tenonrt.Network("maxima")
        pooled = network.add_pooling(
            dequantized(network), function="max", window=(3, 3), stride=(2, 2), pre_padding=(1, 1), post_padding=(1, 1)
        )
        turned = network.add_transpose(pooled, permutation=(0, 2, 3, 1))
        network.mark_output(network.add_identity(network.add_quantize(turned, SCALE, zero, dtype="uint8")), "y")
        return network

    network = define()
    assert passed(network) == Counter({"Pooling": 1, "Transpose": 1, "Identity": 1}) or (
        passed(network) == Counter({"Pooling": 1, "Transpose": 1})
    )
    assert {layer.outputs[0].type.dtype for layer in network.layers} == {"uint8"}
    other = define(np.array(4, np.uint8))  # another grid: the values change
    assert passed(other)["Quantize"] == 1
    x = np.random.default_rng(1).integers(0, 256, (1, 4, 6, 6)).astype(np.uint8)
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    expected = windows.max(axis=(4, 5)).transpose(0, 2, 3, 1)
    assert np.array_equal(computed(define(), {"x": x})["y"], expected)
    shifted = computed(define(np.array(4, np.uint8)), {"x": x})["y"]
    assert np.array_equal(shifted, np.minimum(expected.astype(int) + 1, 255))


def test_tensors_are_joined_as_integers_where_they_share_a_grid() -> None:
    for second, count in ((SCALE, 1), (np.float32(0.2), 2)):
        network = tenonrt.Network("joined")
        parts = [dequantized(network, name="x"), dequantized(network, scale=second, name="z")]
        network.mark_output(network.add_concatenation(*parts, axis=1), "y")
        assert passed(network)["Dequantize"] == count


def test_averages_are_not_taken_of_integers() -> None:
    network = tenonrt.Network("average")
    pooled = network.add_pooling(dequantized(network), function="average", window=(2, 2))
    network.mark_output(network.add_quantize(pooled, SCALE, ZERO, dtype="uint8"), "y")
    assert passed(network) == Counter({"Dequantize": 1, "Pooling": 1, "Quantize": 1})


def test_what_is_quantized_moves_before_what_moves() -> None:
    network = tenonrt.Network("later")
    x = network.add_activation(network.add_input("x", (1, 4, 6, 6)), function="relu")
    turned = network.add_transpose(x, permutation=(0, 2, 3, 1))
    network.mark_output(network.add_quantize(turned, SCALE, ZERO, dtype="uint8"), "y")
    passed(network)
    assert [layer.kind for layer in network.layers] == ["Activation", "Quantize", "Transpose"]


def product(network: tenonrt.Network, x: Any) -> Any:
    """A quantized 1x1 convolution that doubles every channel."""
    weights = network.add_dequantize(np.eye(4, dtype=np.int8).reshape(4, 4, 1, 1) * 4, np.float32(0.5), None)
    return network.add_convolution(x, weights)


def rounded(network: tenonrt.Network, y: Any, scale: Any = SCALE, zero: Any = ZERO) -> Any:
    return network.add_dequantize(network.add_quantize(y, scale, zero, dtype="uint8"), scale, zero)


def finished(network: tenonrt.Network, y: Any) -> tenonrt.Network:
    network.mark_output(network.add_quantize(y, np.float32(0.25), np.array(9, np.uint8), dtype="uint8"), "y")
    return network


def summed(activation: bool = False, both: bool = False) -> tenonrt.Network:
    network = tenonrt.Network("summed")
    y = rounded(network, product(network, dequantized(network)))
    other = dequantized(network, name="z")
    if both:
        other = rounded(network, product(network, other))
    total = network.add_elementwise(y, other, operation="sum")
    return finished(network, network.add_activation(total, function="relu") if activation else total)


def feeds(*names: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.integers(0, 256, (1, 4, 6, 6)).astype(np.uint8) for name in names}


@pytest.mark.parametrize("activation", [False, True])
def test_sums_of_products_are_rounded_once(activation: bool) -> None:
    network = summed(activation)
    kinds = ["Convolution", "Saturate", "Elementwise", "Quantize", *["Dequantize"] * 3, *["Activation"] * activation]
    assert passed(network) == Counter(kinds)
    given = feeds("x", "z")
    x, z = ((given[name].astype(np.float64) - 3) * float(SCALE) for name in "xz")
    total = np.clip(2 * x, -3 * float(SCALE), 252 * float(SCALE)) + z
    steps = np.rint(np.maximum(total, 0 if activation else -np.inf) / 0.25) + 9
    found = computed(summed(activation), given)["y"]
    assert np.abs(found - np.clip(steps, 0, 255)).max() <= 1
    assert (found == np.clip(steps, 0, 255)).mean() > 0.98


def test_one_operand_of_a_sum_stays_an_integer() -> None:
    assert passed(summed(both=True))["Saturate"] == 1


def test_products_that_are_quantized_twice_are_rounded_once() -> None:
    network = tenonrt.Network("twice")
    y = rounded(network, product(network, dequantized(network)))
    counts = passed(finished(network, network.add_activation(y, function="relu")))
    assert (counts["Saturate"], counts["Quantize"]) == (1, 1)


def test_rounding_stays_where_others_see_it() -> None:
    """A second reader, an output, another grid, a sum that stays real, what no product makes."""

    def second_reader(network: tenonrt.Network, stored: Any, y: Any) -> None:
        network.mark_output(network.add_identity(stored), "again")

    def real_sum(network: tenonrt.Network, stored: Any, y: Any) -> None:
        network.mark_output(network.add_elementwise(y, dequantized(network, name="w"), operation="sum"), "sum")

    for disturb in (second_reader, real_sum):
        network = tenonrt.Network("seen")
        stored = network.add_quantize(product(network, dequantized(network)), SCALE, ZERO, dtype="uint8")
        y = network.add_dequantize(stored, SCALE, ZERO)
        disturb(network, stored, y)
        finished(network, network.add_elementwise(y, dequantized(network, name="z"), operation="sum"))
        assert passed(network)["Saturate"] == 0, disturb.__name__
    network = tenonrt.Network("other grid")
    stored = network.add_quantize(product(network, dequantized(network)), SCALE, ZERO, dtype="uint8")
    y = network.add_dequantize(stored, SCALE * 2, ZERO)
    assert passed(finished(network, network.add_activation(y, function="relu")))["Saturate"] == 0
    network = tenonrt.Network("no product")
    y = rounded(network, network.add_unary(dequantized(network), operation="exp"))
    assert passed(finished(network, network.add_activation(y, function="relu")))["Saturate"] == 0


def test_joined_tensors_are_quantized_one_by_one() -> None:
    def define() -> tenonrt.Network:
        network = tenonrt.Network("joined")
        parts = [
            rounded(network, product(network, dequantized(network, name=name)), SCALE * (1 + index))
            for index, name in enumerate("xz")
        ]
        return finished(network, network.add_concatenation(*parts, axis=1))

    network = define()
    passed(network)
    (joined,) = (layer for layer in network.layers if layer.kind == "Concatenation")
    assert joined.outputs[0].type.dtype == "uint8"
    assert Counter(layer.kind for layer in network.layers)["Saturate"] == 2
    given = feeds("x", "z")
    real = [(given[name].astype(np.float64) - 3) * 2 * float(SCALE) for name in "xz"]
    limits = [float(SCALE) * (1 + i) for i in range(2)]
    kept = [np.clip(r, -3 * s, 252 * s) for r, s in zip(real, limits, strict=True)]
    expected = np.clip(np.rint(np.concatenate(kept, 1) / 0.25) + 9, 0, 255)
    assert np.abs(computed(define(), given)["y"] - expected).max() <= 1


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("transposed", [False, True], ids=["as it is", "transposed"])
@pytest.mark.parametrize("along", [None, 0, 1], ids=["one scale", "scales of inputs", "scales of outputs"])
def test_a_product_of_dequantized_constants_is_fully_connected_with_its_bias(
    dtype: str, transposed: bool, along: int | None
) -> None:
    """Weights stay what they are stored as; a bias that is added behind the product is its own, once or twice."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-8, 8, (6, 4)).astype(numpy_dtype(dtype))
    scale = np.float32(0.3) if along is None else rng.uniform(0.2, 0.5, stored.shape[along]).astype(np.float32)
    bias, more = rng.standard_normal((2, 4)).astype(np.float32)

    def define() -> tenonrt.Network:
        network = tenonrt.Network("rows")
        axis = 1 if along is None else 1 - along if transposed else along
        given = np.ascontiguousarray(stored.T) if transposed else stored
        weights = network.add("Dequantize", [given, scale], {"axis": axis})[0]
        x = network.add("Dequantize", [network.add_input("x", (2, 5, 6), dtype), SCALE], {})[0]
        y = network.add("MatrixMultiply", [x, weights], {"transpose_b": transposed})[0]
        y = network.add_elementwise(network.add_elementwise(bias, y, operation="sum"), more, operation="sum")
        network.mark_output(y, "y")
        return network

    network = define()
    assert passed(network) == Counter({"Dequantize": 2, "FullyConnected": 1})
    (product,) = (layer for layer in network.layers if layer.kind == "FullyConnected")
    assert product.inputs[1].producer.inputs[0].type.dtype == dtype
    assert product.inputs[2].constant is not None
    x = rng.integers(-8, 8, (2, 5, 6)).astype(numpy_dtype(dtype))
    scales = (
        np.float64(scale) if along is None else scale.astype(np.float64).reshape((-1, 1) if along == 0 else (1, -1))
    )
    expected = x.astype(np.float64) * np.float64(SCALE) @ (stored.astype(np.float64) * scales) + bias + more
    np.testing.assert_allclose(computed(define(), {"x": x})["y"], expected, rtol=1e-5, atol=1e-5)


def test_what_is_no_bias_stays_a_sum() -> None:
    """A constant that differs from row to row, and a result that is read twice."""
    for shape, twice in (((5, 4), False), ((4,), True)):
        network = tenonrt.Network("sums")
        x = network.add("Dequantize", [network.add_input("x", (2, 5, 6), "int8"), SCALE], {})[0]
        weights = network.add("Dequantize", [np.ones((6, 4), np.int8), SCALE], {})[0]
        y = network.add_matrix_multiply(x, weights)
        network.mark_output(network.add_elementwise(y, np.ones(shape, np.float32), operation="sum"), "y")
        if twice:
            network.mark_output(y, "z")
        assert passed(network)["Elementwise"] == 1


@pytest.mark.parametrize("scales", [(0.1, 0.1), (0.1, 0.2)], ids=["one grid", "two grids"])
def test_what_is_quantized_twice_alike_is_quantized_once(scales: tuple[float, float]) -> None:
    """Each product has its own layers, as tools write them; weights are real numbers that a layer quantizes."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 6, 4)).astype(np.float32)

    def define() -> tenonrt.Network:
        network = tenonrt.Network("twice")
        x = network.add_activation(network.add_input("x", (3, 6)), function="relu")
        for number, scale in enumerate(np.float32(scales)):
            stored = network.add_quantize(x, scale, dtype="float8_e4m3fn")
            w = network.add_quantize(weights[number], np.float32(0.01), dtype="float8_e4m3fn")
            product = network.add_matrix_multiply(
                network.add_dequantize(stored, scale), network.add_dequantize(w, np.float32(0.01))
            )
            network.mark_output(product, f"y{number}")
        return network

    network, alike = define(), len(set(scales)) == 1
    counts = passed(network)
    assert counts == Counter({"Activation": 1, "Quantize": 2 - alike, "Dequantize": 4, "FullyConnected": 2})
    x = rng.standard_normal((3, 6)).astype(np.float32)
    found, kind = computed(define(), {"x": x}), numpy_dtype("float8_e4m3fn")
    for number, scale in enumerate(np.float32(scales)):
        rounded = (np.maximum(x, 0) / scale).astype(kind).astype(np.float64) * scale
        stored = (weights[number] / np.float32(0.01)).astype(kind).astype(np.float64) * np.float32(0.01)
        np.testing.assert_allclose(found[f"y{number}"], rounded @ stored, rtol=1e-5, atol=1e-5)
