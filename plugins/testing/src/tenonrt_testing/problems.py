"""The problems a kernel is tested on: the cases of the layers its name routes to it, and regions on small networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tenonrt.builder.regions import PosedProblem, make_region, pose
from tenonrt.builder.sampling import reference_outputs
from tenonrt.builder.trial import Sample
from tenonrt.contracts import Dimension, GraphError, Kernel, LayerType, Problem, TensorType, symbol
from tenonrt.errors import PluginError
from tenonrt.graph.graph import Layer
from tenonrt.graph.network import Network
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import LAYERS, PluginWarning, Registry

from tenonrt_testing.examples import Example, examples, owns_subgraphs

# Networks built around one anchor are all alike but for its attributes; a few show whether regions are found.
_MAX_ANCHORS = 4


@dataclass(frozen=True, eq=False)
class KernelCase:
    """A problem with a name for messages. ``example``: the layer's own case, whose given arrays can be run too."""

    name: str
    posed: PosedProblem
    example: Example | None = None

    @property
    def problem(self) -> Problem:
        return self.posed.problem


@dataclass
class Found:
    """The problems of a kernel, and what is wrong with the regions that it claims."""

    cases: list[KernelCase]
    bad_regions: list[str]


def routed_kinds(entry: Entry, registry: Registry) -> dict[str, LayerType]:
    """The layer kinds that an entry's name covers, without those that own subgraphs."""
    what = entry.name.partition("/")[2].rpartition(".")[0]
    kinds = {}
    for layer in registry.entries(LAYERS):
        layer_type = _layer_type(registry, layer)
        if layer_type is not None and what in (layer.name, f"@{layer_type.pattern}", "*"):
            kinds[layer.name] = layer_type
    return {kind: found for kind, found in kinds.items() if not owns_subgraphs(found)}


def find_problems(entry: Entry, kernel: Kernel, device: str, registry: Registry) -> Found:
    """Single-layer problems of every case; where the kernel overrides `regions`, the larger regions it claims.

    Of a kernel that takes siblings, a pair of each layer too.
    """
    found, seen = Found([], []), set[str]()
    claims = type(kernel).regions is not Kernel.regions
    for kind, layer_type in routed_kinds(entry, registry).items():
        for number, example in enumerate(examples(kind, layer_type)):
            for case in _single(kind, example, device, registry):
                _keep(found, seen, case)
            pair = _siblings(kind, example, device, registry) if kernel.aggregates and number < _MAX_ANCHORS else None
            if pair is not None:
                _keep(found, seen, pair)
            if claims and number < _MAX_ANCHORS:
                for case in _regions(kind, example, kernel, device, registry, found.bad_regions):
                    _keep(found, seen, case)
    return found


def given_sample(case: KernelCase, registry: Registry) -> Sample | None:
    """The sample with the very arrays that the layer's author wrote into the case; None when there are none."""
    example = case.example
    if example is None or case.problem.symbols or not any(isinstance(value, np.ndarray) for value in example.inputs):
        return None
    arrays = dict(zip(case.problem.layer.inputs, example.arrays(), strict=True))
    inputs = [np.array(arrays[i]) for i in range(len(case.problem.inputs))]
    with np.errstate(all="ignore"):
        return Sample(case.problem, inputs, reference_outputs(case.problem, registry.layer_type, inputs))


def _layer_type(registry: Registry, entry: Entry) -> LayerType | None:
    """A layer type that cannot be had is the concern of its own distribution's tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        try:
            return registry.layer_type(entry.name)
        except PluginError:
            return None


def _keep(found: Found, seen: set[str], case: KernelCase) -> None:
    if any(type.dtype == "string" for type in case.problem.types):
        return  # strings are Python objects: no buffer holds them, and no kernel but the reference takes them
    if case.posed.key not in seen:
        seen.add(case.posed.key)
        found.cases.append(case)


def _single(kind: str, example: Example, device: str, registry: Registry) -> Iterator[KernelCase]:
    """With the inputs after the first computed, then constant; the first with its leading dimension symbolic too."""
    for label, fixed in (("", False), (" with constants", True)):
        if fixed and len(example.inputs) < 2:
            continue
        network = _network(kind, example, fixed, registry)
        if network is not None:
            yield KernelCase(f"{kind}: {example.name}{label}", _posed(network, device), None if fixed else example)
        sizes = _leading(example)
        network = _network(kind, example.resized(sizes), fixed, registry) if sizes else None
        if network is not None and _holds_at_other_sizes(posed := _posed(network, device), registry):
            yield KernelCase(f"{kind}: {example.name}{label}, symbolic", posed)


def _leading(example: Example) -> dict[int, Dimension]:
    first = example.inputs[0] if example.inputs else None
    if not isinstance(first, TensorType) or not first.rank or first.concrete({})[0] < 1:
        return {}
    return {first.concrete({})[0]: symbol("N", 1, 64)}


def _holds_at_other_sizes(posed: PosedProblem, registry: Registry) -> bool:
    """Whether the reference computes the problem at the sizes of a trial: a symbol may stand for one fixed size."""
    try:
        for size in (2, 1):
            with np.errstate(all="ignore"):
                Sample.draw(posed.problem, registry.layer_type, size, 0)
    except (ValueError, IndexError, KeyError):
        return False
    return True


def _network(kind: str, example: Example, fixed: bool, registry: Registry) -> Network | None:
    """A network of the one layer, or None when its types cannot be (a symbol where a number is needed)."""
    network = Network(registry=registry)
    try:
        _mark(network, _add(network, kind, example, fixed))
    except (GraphError, KeyError, ValueError):
        return None
    return network


def _add(network: Network, kind: str, example: Example, fixed: bool) -> Sequence[Any]:
    drawn = example.arrays() if fixed else [None] * len(example.inputs)
    operands = [
        network.input(f"input{i}", example.types[i])  # type: ignore[arg-type]
        if _computed(example, i, fixed)
        else (drawn[i] if value is not None and fixed else value)
        for i, value in enumerate(example.inputs)
    ]
    return network.add(kind, operands, example.attrs)


def _computed(example: Example, index: int, fixed: bool) -> bool:
    value = example.inputs[index]
    if value is None or index in example.layer_type.shape_inputs:
        return False
    return index == 0 or (not fixed and (isinstance(value, TensorType) or value.size > 64))


def _mark(network: Network, outputs: Sequence[Any]) -> None:
    for number, tensor in enumerate(outputs):
        network.output(tensor, f"output{number}")


def _posed(network: Network, device: str) -> PosedProblem:
    return pose(make_region(network.graph, network.layers), device, 1)


# regions -----------------------------------------------------------------------------------------------------------


def _regions(
    kind: str, example: Example, kernel: Kernel, device: str, registry: Registry, bad: list[str]
) -> Iterator[KernelCase]:
    """The regions of several layers that the kernel claims on networks with this layer in them."""
    for tail in _TAILS:
        network = _with_tail(kind, example, tail, registry)
        if network is None:
            continue
        name = " + ".join([f"{kind}: {example.name}", *tail])
        for layers in _claimed(network, kernel, kind):
            try:
                region = make_region(network.graph, layers)
            except ValueError as error:
                bad.append(f"{name}: {[layer.name for layer in layers]}: {error}")
            else:
                if len(region.layers) > 1:
                    yield KernelCase(f"{name}: {region.name}", pose(region, device, 1))


def _siblings(kind: str, example: Example, device: str, registry: Registry) -> KernelCase | None:
    """The layer twice on one input, one of them followed by another layer."""
    network = Network(registry=registry)
    try:
        shared = network.input("input0", example.types[0])  # type: ignore[arg-type]
        constants = example.arrays()[1:]
        for number in range(2):
            [*_, tensor] = network.add(kind, [shared, *constants], example.attrs)
            network.output(_follow(network, tensor, "relu", number) if number else tensor, f"output{number}")
    except (GraphError, PluginError, KeyError, ValueError):
        return None
    return KernelCase(f"{kind}: {example.name}, siblings", _posed(network, device))


def _claimed(network: Network, kernel: Kernel, kind: str) -> list[Sequence[Layer]]:
    regions: list[Sequence[Any]] = []
    for layer in network.layers:
        if layer.kind == kind:
            regions += kernel.regions(network.graph, layer)
    return regions


_TAILS: tuple[tuple[str, ...], ...] = (
    ("relu",),
    ("clip",),
    ("sum", "relu"),
    ("relu", "sum"),
    ("sum", "relu", "relu", "sum"),
    ("relu used twice",),
)


def _with_tail(kind: str, example: Example, tail: Sequence[str], registry: Registry) -> Network | None:
    """The layer with constant weights, followed by pointwise layers; None when those are not installed or refuse."""
    network = Network(registry=registry)
    try:
        [*_, tensor] = _add(network, kind, example, True)
        for number, step in enumerate(tail):
            tensor = _follow(network, tensor, step, number)
    except (GraphError, PluginError, ValueError):
        return None
    network.output(tensor, "result")
    return network


def _follow(network: Network, tensor: Any, step: str, number: int) -> Any:
    if step == "sum":
        other = network.input(f"other{number}", tensor.type)
        return network.add("Elementwise", [tensor, other], {"operation": "sum"})[0]
    if step == "clip":
        return network.add("Activation", [tensor], {"function": "clip", "alpha": -0.5, "beta": 0.5})[0]
    after = network.add("Activation", [tensor], {"function": "relu"})[0]
    if step == "relu used twice":
        network.output(tensor, "also")
    return after
