"""The engine: an immutable plan ready to run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from tenonrt.errors import PlanDeviceError, PlanPluginError, PluginError
from tenonrt.plan.loading import load_plan
from tenonrt.plan.plan import Plan
from tenonrt.plan.program import Binding, BuildReport, Choice, KernelStep, PlanHeader, Program
from tenonrt.plan.workspace import workspace_bytes
from tenonrt.plugins.registry import Registry, current_registry, using
from tenonrt.problem import Code
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
    """Every code compiled on this machine from its problem and tactic; the plan is then of this machine.

    Where sizes must be fixed a code only says what to compile, and each run compiles it where it runs.
    """
    codes = list(plan.codes)
    for step in _kernel_steps(plan.program):
        code = plan.codes[step.code]
        if not step.specialise and codes[step.code] is code:
            codes[step.code] = _compile_again(step, code, registry)
    fingerprint = registry.device(plan.header.device).fingerprint()
    header = msgspec.structs.replace(plan.header, fingerprint=fingerprint)
    return replace(plan, header=header, codes=codes)


def _kernel_steps(program: Program) -> Iterator[KernelStep]:
    """Those of a program and of its sub-programs."""
    for step in program.steps:
        if isinstance(step, KernelStep):
            yield step
        else:
            for graph in step.graphs:
                yield from _kernel_steps(graph)


def _compile_again(step: KernelStep, code: Code, registry: Registry) -> Code:
    try:
        return registry.kernel(step.kernel).compile(code.problem, code.tactic)
    except PluginError as error:
        raise PlanPluginError(f"step {step.name!r} must be compiled anew for this machine: {error}") from error
    except Exception as error:
        raise PlanDeviceError(
            f"step {step.name!r} cannot be compiled anew for this machine: the kernel {step.kernel} raised {error!r}; "
            f"build the plan again here"
        ) from error
