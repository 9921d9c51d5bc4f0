"""Code that needs less workspace than its tactic may take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tenonrt import Network, Registry
from tenonrt.builder.regions import make_region, pose
from tenonrt.builder.trial import Sample, bind_sample
from tenonrt.contracts import Array, Code, Executable, Kernel, Problem, Support, Tactic
from tenonrt.errors import PlanCorruptError
from tenonrt.plan.consistency import check_code
from tenonrt.plan.program import KernelStep, Program, ProgramTensor
from tenonrt.plan.workspace import workspace_bytes

REGISTRY = Registry()


class Roomy(Kernel):
    """Knows what it needs once it has compiled."""

    def supports(self, problem: Problem) -> Support:
        return Support(True)

    def compile(self, problem: Problem, tactic: Tactic) -> Code:
        return Code(problem, tactic, workspace=64)

    def bind(self, code: Code, packed: Sequence[Array]) -> Executable:
        return Nothing()


class Nothing:
    def launch(self, inputs: Sequence[Any], outputs: Sequence[Any], workspace: Any | None, stream: Any | None) -> None:
        raise AssertionError("it is only bound")


def code(workspace: int | None = 64) -> Code:
    net = Network("n", REGISTRY)
    net.mark_output(net.add_activation(net.add_input("x", (4,)), function="relu"), "y")
    problem = pose(make_region(net.graph, net.graph.layers), "cpu", 1).problem
    return Code(problem, Tactic("t", workspace=1 << 20), workspace=workspace)


def program(found: Code) -> Program:
    tensors = tuple(ProgramTensor(name, found.problem.types[0]) for name in "xy")
    return Program((0,), (("y", 1),), tensors, (KernelStep("relu", (), (), "k", 0, (), (0,), (1,), ()),))


def test_a_launch_gets_what_the_code_says() -> None:
    found, kernel = code(), Roomy()
    sample = Sample.draw(found.problem, REGISTRY.layer_type, 2, 0)
    made = kernel.compile(found.problem, found.tactic)
    bound = bind_sample(kernel, made, sample, REGISTRY.device("cpu"))
    assert bound.launch.workspace is not None
    assert bound.launch.workspace.nbytes == 64


@pytest.mark.parametrize(("said", "needed"), [(64, 64), (0, 0), (None, 1 << 20)])
def test_a_program_sets_aside_what_its_codes_say(said: int | None, needed: int) -> None:
    assert workspace_bytes(program(code(said)), [code(said)]) == needed


@pytest.mark.parametrize("said", [-64, (1 << 20) + 64])
def test_a_plan_whose_code_takes_what_its_tactic_does_not(said: int) -> None:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(code(said)), type=Code)
    with pytest.raises(PlanCorruptError, match=f"wants a workspace of {said} bytes, its tactic one of 1048576"):
        check_code(Path("a.plan"), 0, stored)
