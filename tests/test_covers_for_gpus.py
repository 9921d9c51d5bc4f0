"""Covers for a GPU, found without one: whatever kernels take, nothing is left to the host and every reformat is there.

Prices are drawn, so that covers come up that no machine has had reason to choose yet.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tenonrt
from tenonrt.builder.choices import Chosen, KernelChoice, ViewChoice
from tenonrt.builder.config import BuilderConfig
from tenonrt.builder.constants import Constants
from tenonrt.builder.lowering import Lowering
from tenonrt.builder.offers import Offer, Offers
from tenonrt.builder.pricing import find_limits
from tenonrt.builder.reformats import choose_reformat
from tenonrt.builder.selection import Selector, is_known, storage_formats
from tenonrt.builder.strategies import timed_columns
from tenonrt.builder.tuner import Tuner
from tenonrt.contracts import Code
from tenonrt.graph.passes import run_passes
from tenonrt.plan.program import Program
from tenonrt.plugins.hooks import Hooks
from tenonrt.plugins.registry import using

NAME = "gpu_blocks_of_networks"
if NAME not in sys.modules:
    spec = importlib.util.spec_from_file_location(NAME, Path(__file__).parent / "gpu" / "test_blocks_of_networks.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[NAME])
blocks = sys.modules[NAME]


class Drawn:
    """A tuner to which every offer is sound."""

    def __init__(self, seed: int) -> None:
        self.rng, self.prices = np.random.default_rng(seed), dict[tuple[str, str], int]()

    def nanoseconds(self, offer: Offer) -> int:
        key = (offer.posed.key, offer.id)
        return self.prices.setdefault(key, int(10 ** self.rng.uniform(3, 5)))

    def known(self, offer: Offer) -> None:
        return None

    def check(self, offer: Offer) -> str:
        return ""

    def code(self, offer: Offer) -> Code:
        return Code(offer.posed.problem, offer.tactic)


def few(offers: list[Offer]) -> list[Offer]:
    """One tactic of a kernel for a region in the same formats: the solver need not see the others."""
    kept = {(o.posed.region.name, o.entry.id, o.tactic.inputs, o.tactic.outputs): o for o in reversed(offers)}
    return [*kept.values()]


def lowered(net: tenonrt.Network, seed: int, precision: str = "float16") -> Program:
    """The program of a cover at drawn prices by the GPU's kernels alone."""
    config = BuilderConfig(device="cuda", precision=precision)  # type: ignore[arg-type]
    with using(net.registry):
        offers = Offers(net.graph, net.registry, config, Hooks(net.registry))
        computed = [layer for layer in net.graph.layers if not is_known(layer)]
        offered = few([o for layer in computed for o in offers.at(layer) if o.kernel.on_device])
        tuner = cast(Tuner, Drawn(seed))
        selector = Selector(net.graph, storage_formats(offered))
        found = selector.by_anchor(offered)
        find_limits(selector, offers)
        cover = selector.solve(timed_columns(selector, found, offered, tuner, offers.refusals))
        choices = list[Chosen]()
        for source, writes in (selector.sources[column.id] for column in cover.columns):
            if isinstance(source, Offer):
                choices.append(kernel_choice(selector, source, writes, tuner))
            elif source in selector.views:
                view = selector.views[source]
                choices.append(ViewChoice(source, view.whole, view.parts, writes))
        reformats = [
            choose_reformat(net.registry, config, tuner, offers, selector.tensor(number), source, target)
            for number, source, target in selector.sourced_reformats(cover)
        ]
        assert all(reformat.kernel.on_device for reformat in reformats)
        return Lowering(net.graph, Constants(), selector.layers, {}).lower(choices, reformats)


def kernel_choice(selector: Selector, offer: Offer, writes: tuple[object, ...], tuner: Tuner) -> KernelChoice:
    reads, code = tuple(selector.accepts(offer)), tuner.code(offer)
    return KernelChoice(offer.posed, offer.entry.id, offer.kernel, offer.tactic, False, code, reads, writes)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "block", [blocks.halves, blocks.pyramid, blocks.distances, blocks.excitation], ids=lambda block: block.__name__
)
def test_no_step_is_left_to_the_host(block: Any, precision: str) -> None:
    net = tenonrt.Network(block.__name__)
    net.mark_output(block(net, net.add_input("x", (2, 24, 12, 16))), "y")
    run_passes(net.graph, net.registry)
    for seed in range(6):
        assert lowered(net, seed, precision).steps
