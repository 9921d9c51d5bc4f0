"""Quantize and Dequantize layers after the passes: where they are, and that the network computes the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import tenonrt
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
