"""Regions of a graph and the canonical problems they pose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from tenonrt.dims import Dimension, substitute, symbols
from tenonrt.graph.graph import Graph, Layer, Tensor
from tenonrt.problem import Problem, ProblemInput, ProblemLayer
from tenonrt.types import TensorType

# Larger constants enter a problem by type only, so that networks with other weights share its timings.
MAX_CONSTANT_ELEMENTS = 64


@dataclass(frozen=True, eq=False)
class Region:
    """Layers that one kernel would compute together, with the tensors that cross its border."""

    layers: tuple[Layer, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @cached_property
    def name(self) -> str:
        """``conv1 + relu1``, in topological order; siblings are set apart: ``conv1 + relu1 || conv2``."""
        return " || ".join(" + ".join(layer.name for layer in part) for part in self.parts)

    @cached_property
    def parts(self) -> tuple[tuple[Layer, ...], ...]:
        """The layers that are connected by tensors made here: one part, or one for each sibling."""
        inside, owner = set(self.layers), dict[Layer, Layer]()

        def root(layer: Layer) -> Layer:
            while owner.get(layer, layer) is not layer:
                layer = owner[layer]
            return layer

        for layer in self.layers:
            for tensor in layer.inputs:
                if tensor is not None and tensor.producer in inside and root(tensor.producer) is not root(layer):
                    owner[root(layer)] = root(tensor.producer)
        parts: dict[Layer, list[Layer]] = {}
        for layer in self.layers:
            parts.setdefault(root(layer), []).append(layer)
        return tuple(tuple(part) for part in parts.values())


@dataclass(frozen=True, eq=False)
class PosedProblem:
    """A region's problem, and what the problem's numbers stand for."""

    region: Region
    problem: Problem
    key: str
    symbols: tuple[str, ...]  # the graph's symbol behind each of Problem.symbols


def make_region(graph: Graph, layers: Iterable[Layer]) -> Region:
    """The region of these layers; `ValueError` says why they cannot be one."""
    members = sorted(set(layers), key=lambda layer: layer.position)
    inside = set(members)
    if not members:
        raise ValueError("the region has no layers")
    if owner := next((layer for layer in members if layer.graphs), None):
        raise ValueError(f"{owner.name!r} owns graphs, which the core runs")
    if any(layer not in graph for layer in members):
        raise ValueError("a layer of the region is not in the graph")
    inputs: dict[Tensor, None] = {}
    outputs: list[Tensor] = []
    for layer in members:
        inputs.update((t, None) for t in layer.inputs if t is not None and t.producer not in inside)
        outputs += [t for t in layer.outputs if graph.is_output(t) or any(r not in inside for r in t.readers)]
    if not outputs:
        outputs = list(members[-1].outputs)
    if len(members) > 1 and not _convex(members, inside):
        raise ValueError("the region is not convex: a path leaves it and comes back")
    return Region(tuple(members), tuple(inputs), tuple(outputs))


def _convex(members: Sequence[Layer], inside: set[Layer]) -> bool:
    last = members[-1].position
    stack = [r for layer in members for t in layer.outputs for r in t.readers if r not in inside]
    seen: set[Layer] = set()
    while stack:
        layer = stack.pop()
        if layer in inside:
            return False
        if layer in seen or layer.position > last:
            continue
        seen.add(layer)
        stack.extend(r for t in layer.outputs for r in t.readers)
    return True


def pose(region: Region, device: str, threads: int) -> PosedProblem:
    """The canonical problem of a region: numbered tensors, renamed symbols, no names."""
    numbers = {tensor: i for i, tensor in enumerate(region.inputs)}
    tensors = list(region.inputs)
    layers = []
    for layer in region.layers:
        reads = tuple(-1 if t is None else numbers[t] for t in layer.inputs)
        writes = tuple(range(len(tensors), len(tensors) + len(layer.outputs)))
        numbers.update(zip(layer.outputs, writes, strict=True))
        tensors.extend(layer.outputs)
        layers.append(ProblemLayer(layer.kind, layer.attrs, reads, writes))
    renamed = _Renaming()
    types = tuple(renamed.type(tensor.type) for tensor in tensors)
    problem = Problem(
        tuple(layers),
        tuple(_problem_input(tensor, region) for tensor in region.inputs),
        types,
        tuple(numbers[tensor] for tensor in region.outputs),
        device,
        threads,
    )
    return PosedProblem(region, problem, problem_key(problem), tuple(renamed.names))


class _Renaming:
    """Symbols by order of appearance: s0, s1, ..."""

    def __init__(self) -> None:
        self.names: dict[str, Dimension] = {}

    def type(self, type: TensorType) -> TensorType:
        if type.static:
            return type
        for dimension in type.shape:
            for found in symbols(dimension):
                if found.name not in self.names:
                    self.names[found.name] = found.renamed(f"s{len(self.names)}")
        return type.reshape([substitute(d, self.names) for d in type.shape])


def _problem_input(tensor: Tensor, region: Region) -> ProblemInput:
    if tensor.constant is not None:
        small = tensor.constant.size <= MAX_CONSTANT_ELEMENTS and tensor.constant.dtype.kind in "iufb"
        if small and not _bound(tensor, region):
            return ProblemInput("constant", tuple(tensor.constant.reshape(-1).tolist()))
        return ProblemInput("constant")
    on_host = tensor.info.place == "host" or any(
        tensor is layer.inputs[i]
        for layer in region.layers
        for i in layer.layer_type.shape_inputs
        if i < len(layer.inputs)
    )
    return ProblemInput("host" if on_host else "activation")


def _bound(tensor: Tensor, region: Region) -> bool:
    """Whether a constant is a scale or a zero point: layers that differ in those alone are one problem."""
    readers = [(layer, i) for layer in region.layers for i, t in enumerate(layer.inputs) if t is tensor]
    return all(i in layer.layer_type.bound_inputs for layer, i in readers)


def problem_key(problem: Problem) -> str:
    """Equal problems have equal keys, in every process."""
    return hashlib.blake2b(msgspec.msgpack.encode(problem), digest_size=16).hexdigest()
