"""Quantize and Dequantize layers by ranges: a calibrated network takes the form of a quantized model.

Weights are symmetric int8 with a scale for each output, as TensorRT's are. Activations are symmetric int8 by their
range, or uint8 where they are never negative and the device multiplies it: half of int8's levels would stand for
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

import numpy as np

from tenonrt.calibration.signs import nonnegative_tensors
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.graph.network import Network
from tenonrt.types import Array, Range

CONTRACTIONS = frozenset({"Convolution", "FullyConnected", "MatrixMultiply"})
_LEVELS = 127.0
# Of scales: those that float32 has together with their reciprocals, the step of uint8, about half, included.
_LEAST, _GREATEST = 2.0**-124, 2.0**124


def is_quantized(graph: Graph) -> bool:
    """Whether a graph has integers to compute with: layers that quantize or dequantize, in sub-graphs too."""
    return any("uantize" in layer.kind or any(map(is_quantized, layer.graphs)) for layer in graph.layers)


def quantizable(layer: Layer) -> bool:
    """Whether a layer multiplies a computed real tensor with constant weights, which must be finite."""
    if layer.kind not in CONTRACTIONS or len(layer.inputs) < 2:
        return False
    source, weights = layer.inputs[0], layer.inputs[1]
    if source is None or weights is None or weights.constant is None or source.constant is not None:
        return False
    maker = source.producer
    real = source.type.dtype == weights.type.dtype == "float32"
    real = real and weights.constant.ndim >= 2 and (maker is None or maker.kind != "Dequantize")
    return real and bool(np.isfinite(weights.constant).all())


def quantizable_tensors(graph: Graph, keep: Collection[str] = ()) -> list[Tensor]:
    """What the layers that could compute with int8 read; ``keep`` as in `quantize_network`."""
    keep = _kept(graph, keep)
    read = [layer.inputs[0] for layer in graph.layers if quantizable(layer) and layer.name not in keep]
    return list(dict.fromkeys(tensor for tensor in read if tensor is not None))


def quantize_network(
    network: Network, ranges: Mapping[str, Range], keep: Collection[str] = (), *, unsigned: bool = True
) -> list[str]:
    """Insert the layers; names of those that now compute with int8.

    keep: layers that stay real, by their own name or that of a node of the model that is in them. A layer whose input
    has no range, or one that is no interval, stays real too. unsigned: what is never negative is uint8.
    """
    graph = network.graph
    keep = _kept(graph, keep)
    for tensor in (*graph.inputs, *(t for layer in graph.layers for t in layer.outputs)):
        tensor.range = ranges.get(tensor.name, tensor.range)
    chosen = [layer for layer in graph.layers if quantizable(layer) and layer.name not in keep]
    chosen = [layer for layer in chosen if _has_range(layer.inputs[0])]
    nonnegative = nonnegative_tensors(graph) if unsigned else set()
    inner = [t for layer in chosen for t in layer.inputs[:1] if t is not None]
    for tensor in dict.fromkeys([*inner, *_added(graph, inner, keep)]):
        _quantize_tensor(network, tensor, keep, "uint8" if tensor in nonnegative else "int8")
    for layer in chosen:
        _quantize_weights(network, layer)
    return [layer.name for layer in chosen]


def _kept(graph: Graph, keep: Collection[str]) -> set[str]:
    """Names of the layers that are meant: the one called so, else all from the model's node that is.

    `BuildError` for a name that is neither.
    """
    made = dict[str, set[str]]()
    for layer in graph.layers:
        for source in layer.sources:
            made.setdefault(source, set()).add(layer.name)
    known = made | {layer.name: {layer.name} for layer in graph.layers}
    unknown = sorted(set(keep) - set(known))
    if unknown:
        near = get_close_matches(unknown[0], sorted(known), 3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise BuildError(f"no layer to keep real is called {', '.join(unknown)}{meant}")
    return set[str]().union(*(known[name] for name in keep))


def _has_range(tensor: Tensor | None) -> bool:
    """Whether a tensor has a range that 8 bits can stand for: one of zeros only, or of next to nothing, is none."""
    return tensor is not None and tensor.range is not None and _LEAST <= tensor.range.scale <= _GREATEST


def _added(graph: Graph, inner: Collection[Tensor], keep: Collection[str]) -> list[Tensor]:
    """One operand of each sum that ends in a quantized tensor, unless one is quantized already: the sum then goes into
    the region of the layer that makes the other one."""
    found, known = list[Tensor](), set(inner)
    for layer in graph.layers:
        if layer.kind != "Elementwise" or layer.attrs.operation != "sum" or layer.name in keep:
            continue
        operands = [t for t in layer.inputs if t is not None and t.constant is None]
        alike = len(operands) == 2 and operands[0].type.shape == operands[1].type.shape
        if not alike or not known.isdisjoint(operands) or not _ends_quantized(layer, known):
            continue
        able = [t for t in operands if _has_range(t) and t.producer is not None]
        if able:
            found.append(able[-1])
            known.add(able[-1])
    return found


def _ends_quantized(layer: Layer, known: Collection[Tensor]) -> bool:
    result = layer.outputs[0]
    after = [r.outputs[0] for r in result.readers if r.kind == "Activation"]
    return result in known or any(tensor in known for tensor in after)


def _quantize_tensor(network: Network, tensor: Tensor, keep: Collection[str], dtype: str) -> None:
    """Readers but those that stay real read what 8 bits make of a tensor."""
    assert tensor.range is not None
    readers = [layer for layer in tensor.readers if layer.name not in keep]
    # A cache holds int8's scale as float32: what calibration finds must give the same engine.
    step = float(np.float32(tensor.range.scale))
    scale = np.float32(step * _LEVELS / np.iinfo(dtype).max)
    with network.origin(tensor.name):
        (stored,) = network.add("Quantize", [tensor, scale], {"dtype": dtype}, name=f"{tensor.name}/quantized")
        (real,) = network.add("Dequantize", [stored, scale], name=f"{tensor.name}/dequantized")
    network.graph.replace_uses(tensor, real, readers)
    for name, output in list(network.graph.outputs.items()):
        if output is real:
            network.graph.set_output(name, tensor)


def _quantize_weights(network: Network, layer: Layer) -> None:
    weights = layer.inputs[1]
    assert weights is not None
    assert weights.constant is not None
    last = layer.kind == "MatrixMultiply" and not layer.attrs.transpose_b
    axis = weights.constant.ndim - 1 if last else 0
    stored, scale = quantize_weights(weights.constant, axis)
    with network.origin(layer.name):
        (real,) = network.add("Dequantize", [stored, scale], {"axis": axis}, name=f"{layer.name}/weights")
    network.graph.replace_uses(weights, real, [layer])


def quantize_weights(weights: Array, axis: int) -> tuple[Array, Array]:
    """int8 and the scale of each slice along an axis: its largest magnitude is 127 steps.

    A slice of zeros, or of what is too small for a scale, is zeros with the scale 1.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights.astype(np.float64)).max(axis=others, initial=0.0)
    scale = np.where(largest / _LEVELS >= _LEAST, largest / _LEVELS, 1.0).astype(np.float32)
    spread = scale.astype(np.float64).reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    return np.clip(np.rint(weights / spread), -_LEVELS, _LEVELS).astype(np.int8), scale
