"""Every kernel for GPUs on the problems of the conformance kit, tried as a build tries them."""

from __future__ import annotations

from typing import Any

import pytest
from tenonrt.builder.trial import Packs, Sample, try_tactic
from tenonrt.plugins.registry import KERNELS, Registry, using
from tenonrt_testing.problems import find_problems

REGISTRY = Registry()
ENTRIES = {entry.name: entry for entry in REGISTRY.usable(KERNELS) if entry.name.startswith("cuda/")}
# Of each kernel so many problems, and of each of these so many tactics, the first and the last among them.
MOST_PROBLEMS, MOST_TACTICS = 8, 3


def spread(found: list[Any], most: int) -> list[Any]:
    """At most so many, evenly from the first to the last."""
    if len(found) <= most:
        return found
    return [found[i * (len(found) - 1) // (most - 1)] for i in range(most)]


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_a_kernel_computes_what_its_layers_mean(name: str) -> None:
    entry, device = ENTRIES[name], REGISTRY.device("cuda")
    wrong, tried = [], 0
    with using(REGISTRY):
        kernel = REGISTRY.instance(entry)
        cases = [c for c in find_problems(entry, kernel, "cuda", REGISTRY).cases if kernel.supports(c.problem).ok]
        for case in spread(cases, MOST_PROBLEMS):
            samples, packs = [Sample.draw(case.problem, REGISTRY.layer_type, 2, 0)], Packs()
            for tactic in spread(list(kernel.tactics(case.problem)), MOST_TACTICS):
                try:
                    verdict, _ = try_tactic(kernel, case.problem, tactic, samples, REGISTRY.layer_type, device, packs)
                    why = verdict.why
                except Exception as error:  # noqa: BLE001 - a library refuses configurations in its own ways
                    why = "" if "Skipping plan" in str(error) else repr(error)
                wrong += [f"{case.name}: {tactic.key}: {why}"] if why else []
                tried += 1
    assert not wrong, "\n".join(wrong[:10])
    if not tried:
        pytest.skip("no problem of the kit is this kernel's")
