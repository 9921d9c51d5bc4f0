"""Reformats: a tensor stored anew in another format or as a slice, by whichever kernel offers the `Reformat` layer."""

from __future__ import annotations

import msgspec

from tenonrt.builder.choices import ReformatChoice, SliceOf, format_of
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.offers import Offer, Offers
from tenonrt.builder.regions import PosedProblem, Region, pose
from tenonrt.builder.strategies import rank
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import BuildError
from tenonrt.graph.attributes import make_attrs
from tenonrt.graph.graph import Layer, Tensor
from tenonrt.plugins.registry import Registry


def choose_reformat(
    registry: Registry,
    config: BuilderConfig,
    tuner: Tuner,
    offers: Offers,
    tensor: Tensor,
    source: object,
    target: object,
) -> ReformatChoice:
    """The fastest sound kernel, of untimed ones the best ranked; `BuildError` lists why there is none."""
    posed = pose_reformat(registry, config, tensor, source, target)
    refused = []
    for offer in sorted(offers.alone(posed), key=lambda o: (_seconds(o, tuner), *rank(o, registry.plugins))):
        why = _strides(offer, source, target) or tuner.check(offer)
        if not why:
            code = tuner.code(offer)
            return ReformatChoice(tensor, source, target, posed, offer.entry.id, offer.kernel, code)
        refused.append(f"{offer.id}: {why}")
    refused += [f"{r.kernel}: {r.why}" for r in offers.refusals if r.posed.key == posed.key]
    reasons = "; ".join(refused) or "none is installed for the Reformat layer"
    raise BuildError(f"no kernel stores {tensor.name!r} ({source}) as {target}: {reasons}")


def _seconds(offer: Offer, tuner: Tuner) -> float:
    """Its price, which includes what leaving the device's program costs; infinite where it was not timed."""
    known = tuner.known(offer)
    return tuner.nanoseconds(offer) * 1e-9 if known is not None and known.seconds is not None else float("inf")


def _strides(offer: Offer, source: object, target: object) -> str:
    """Why a tactic cannot read or write a slice of a larger tensor where it would have to."""
    if isinstance(source, SliceOf) and 0 not in offer.tactic.reads_strided:
        return "it does not read slices of larger tensors"
    if isinstance(target, SliceOf) and 0 not in offer.tactic.writes_strided:
        return "it does not write slices of larger tensors"
    return ""


def pose_reformat(
    registry: Registry, config: BuilderConfig, tensor: Tensor, source: object, target: object
) -> PosedProblem:
    """The problem of storing a tensor in another format."""
    layer_type = registry.layer_type("Reformat")
    plain = {"source": msgspec.to_builtins(format_of(source)), "target": msgspec.to_builtins(format_of(target))}
    layer = Layer(
        "Reformat", tensor.name, layer_type, make_attrs(layer_type, "Reformat", tensor.name, plain), (tensor,)
    )
    output = Tensor(tensor.name, tensor.info.with_value(None))
    output.producer = layer
    layer.outputs = (output,)
    return pose(Region((layer,), (tensor,), (output,)), config.device, config.posed_threads)
