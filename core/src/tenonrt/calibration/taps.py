"""Engines that also return what lies between layers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tenonrt.builder.builder import Builder
from tenonrt.builder.config import BuilderConfig
from tenonrt.graph.graph import Graph, Tensor
from tenonrt.graph.network import Network
from tenonrt.runtime.engine import Engine


def real_tensors(graph: Graph) -> list[Tensor]:
    """The float32 tensors that are computed or given, inputs first."""
    made = [t for layer in graph.layers for t in layer.outputs]
    return [t for t in (*graph.inputs, *made) if t.type.dtype == "float32" and t.constant is None and t.type.rank]


def tapped_engine(
    network: Network, tensors: Collection[Tensor], config: BuilderConfig
) -> tuple[Engine, dict[str, str]]:
    """An engine of exact kernels, chosen without timing, that returns these tensors too; output name by tensor name.

    The network is as it was afterwards, but for what passes do to it.
    """
    graph, kept, taps = network.graph, dict(network.graph.outputs), dict[str, str]()
    for index, tensor in enumerate(tensors):
        if tensor in graph.inputs:
            continue
        taps[tensor.name] = f"tap {index} {tensor.name}"
        graph.set_output(taps[tensor.name], tensor)
    settings = replace(config, optimization_level=0, precision="float32", replay=None, timing_cache=None)
    try:
        engine = Builder(settings).build(network)
    finally:
        for name in [name for name in graph.outputs if name not in kept]:
            graph.drop_output(name)
    return engine, taps
