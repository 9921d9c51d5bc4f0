"""The engine: an immutable plan ready to run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import msgspec

from tenonrt.plan.loading import load_plan
from tenonrt.plan.plan import Plan
from tenonrt.plan.program import Binding, BuildReport, Choice, KernelStep, PlanHeader
from tenonrt.plan.workspace import workspace_bytes
from tenonrt.plugins.registry import Registry, current_registry, using
from tenonrt.runtime.context import ExecutionContext


class Engine:
    """Runs a plan. Contexts made from it share its weights and may run side by side."""

    def __init__(self, plan: Plan, registry: Registry | None = None) -> None:
        self.plan = plan
        self.registry = registry or current_registry()

    @classmethod
    def load(
        cls,
        path: str | Path,
        code: Literal["run", "ignore"] = "run",
        verify: bool = False,
        registry: Registry | None = None,
    ) -> Engine:
        """Read a plan. A plan with code is a program: ``code="ignore"`` compiles it anew instead of trusting it.

        verify: check the hashes of the weights too. On another machine of the same kind of device the code is compiled
        anew. Errors: `NotAPlanError`, `PlanVersionError`, `PlanDeviceError`, `PlanPluginError`, `PlanCorruptError`.
        """
        registry = registry or current_registry()
        plan = load_plan(Path(path), registry, verify)
        fingerprint = registry.device(plan.header.device).fingerprint()
        moved = fingerprint != plan.header.fingerprint
        if moved:
            warnings.warn(
                f"{path} was tuned on another machine; its code is compiled anew, its choices kept", stacklevel=2
            )
        with using(registry):
            return cls(_prepare_again(plan, registry) if moved or code == "ignore" else plan, registry)

    def save(self, path: str | Path) -> None:
        """Write the plan; the file appears whole or not at all."""
        self.plan.save(Path(path))

    def create_context(self, seed: int | None = None) -> ExecutionContext:
        """A context; ``seed`` fixes the random numbers of layers that draw some."""
        return ExecutionContext(self, seed)

    @property
    def header(self) -> PlanHeader:
        return self.plan.header

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """Inputs in order of definition, then outputs."""
        return self.plan.header.bindings

    @property
    def report(self) -> BuildReport:
        return self.plan.report

    @property
    def choice(self) -> Choice:
        """What was selected, for `BuilderConfig.replay`."""
        return self.plan.choice

    def inspect(self) -> dict[str, Any]:
        """The header, the report and the memory as plain values, fit for JSON."""
        program = self.plan.program
        return {
            "header": msgspec.to_builtins(self.plan.header),
            "report": msgspec.to_builtins(self.plan.report),
            "memory": {
                "arena": program.arena,
                "lower_bound": program.lower_bound,
                "weights": sum(w.nbytes for w in self.plan.weights),
                "workspace": workspace_bytes(program, self.plan.codes),
                "tensors": {t.name: str(t.type) for t in program.tensors},
            },
        }


def _prepare_again(plan: Plan, registry: Registry) -> Plan:
    """Every native code compiled on this machine from its problem and tactic."""
    kernels = {step.code: step.kernel for step in plan.program.steps if isinstance(step, KernelStep)}
    codes = [
        registry.kernel(kernels[i]).compile(code.problem, code.tactic) if i in kernels and code.blob else code
        for i, code in enumerate(plan.codes)
    ]
    return Plan(plan.header, plan.program, codes, plan.weights, plan.choice, plan.report)
