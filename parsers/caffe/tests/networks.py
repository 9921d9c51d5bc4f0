"""Networks made in the tests, run by TenonRT and by OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tenonrt
from tenonrt import Network, PluginSet, Registry
from tenonrt.contracts import Array
from tenonrt.graph.passes import run_passes
from tenonrt_parser_caffe.network import read_network
from tenonrt_parser_caffe.options import CaffeOptions
from tenonrt_parser_caffe.parameters import Parameters, Store
from tenonrt_parser_caffe.schema import new
from tenonrt_parser_caffe.translate import Translator

# Native kernels are judged by the conformance kit, and would be compiled for every network here.
REGISTRY = Registry(PluginSet(deny=("tenonrt-kernel-llvm",)))


def prototxt(layers: str, **inputs: Sequence[int]) -> str:
    """A network of these layers, with an Input layer for each input."""
    made = ""
    for name, shape in inputs.items():
        dims = " ".join(f"dim: {size}" for size in shape)
        made += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    return f'name: "made"\n{made}{layers}'


def caffemodel(weights: Mapping[str, Sequence[Array]]) -> bytes:
    """A trained model that holds these blobs by layer."""
    net = new("NetParameter")
    net.name = "trained"
    for name, blobs in weights.items():
        layer = net.layer.add(name=name, type="Unused")
        for values in blobs:
            blob = layer.blobs.add()
            blob.shape.dim.extend(values.shape)
            blob.data.extend(np.asarray(values, np.float32).ravel().tolist())
    data: bytes = net.SerializeToString()
    return data


def run(path: Path, feeds: Mapping[str, Array], native: bool = False, **options: Any) -> dict[str, Array]:
    """What TenonRT computes of a file, by native kernels only where that is said."""
    network = tenonrt.parse(path, registry=REGISTRY, options=options)
    plugins = PluginSet(deny=() if native else ("tenonrt-kernel-llvm",))
    engine = tenonrt.compile(network, optimization_level=0, plugins=plugins)
    wanted = {binding.name for binding in engine.bindings if binding.is_input}
    found: dict[str, Array] = engine.create_context().execute({n: a for n, a in feeds.items() if n in wanted})
    return found


def optimized(path: Path, **options: Any) -> Network:
    """A file's network when the passes are done."""
    network: Network = tenonrt.parse(path, registry=REGISTRY, options=options)
    run_passes(network.graph, REGISTRY)
    return network


def made_up(path: Path, seed: int) -> dict[str, list[Array]]:
    """The weights that a network's fillers make up, by layer."""
    made: dict[str, dict[int, Array]] = {}

    class Recording(Parameters):
        def take(self, index: int, *arguments: Any) -> Array:
            array = super().take(index, *arguments)
            made.setdefault(self._layer, {})[index] = array
            return array

    class RecordingStore(Store):
        def of(self, layer: str, names: Sequence[str]) -> Parameters:
            return Recording(self, layer, names)

    network = Network("recorded", REGISTRY)
    Translator(network, read_network(path), RecordingStore({}, seed), CaffeOptions(), None).run()
    return {name: [blobs[index] for index in sorted(blobs)] for name, blobs in made.items()}
