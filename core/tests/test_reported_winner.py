"""The report says of every region which of its candidates the engine runs."""

from __future__ import annotations

import pytest
import tenonrt
from tenonrt.graph.network import Network
from tenonrt.plan.program import KernelStep


@pytest.mark.parametrize("level", [0, 3])
def test_winners_are_the_steps_of_the_program(level: int) -> None:
    net = Network()
    h = net.add_activation(net.add_input("x", (3, 4)), function="relu", name="a > b")
    h = net.add_reshape(h, [12], name="view > only")
    net.mark_output(net.add_softmax(h, axis=0, name="soft"), "y")
    engine = tenonrt.compile(net, optimization_level=level)
    won = {
        " + ".join(region.layers): (candidate.kernel, candidate.tactic)
        for region in engine.report.regions
        for candidate in region.candidates
        if region.won(candidate)
    }
    steps = [step for step in engine.plan.program.steps if isinstance(step, KernelStep)]
    codes = engine.plan.codes
    assert won == {step.name: (step.kernel, codes[step.code].tactic.key) for step in steps}
    lost = [region for region in engine.report.regions if region.layers == ("view > only",)]
    assert lost
    assert all(region.winner is None for region in lost)


def test_a_recorded_choice_finds_layers_of_any_name() -> None:
    engines = []
    for _ in range(2):
        net = Network()
        h = net.add_activation(net.add_input("x", (3, 4)), function="relu", name="a > b")
        net.mark_output(net.add_reshape(h, [12], name="c > d@e"), "y")
        engines.append(tenonrt.compile(net, replay=engines[0].choice if engines else None))
    assert engines[0].choice == engines[1].choice
