"""The engine: an immutable plan ready to run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec

from tenonrt.errors import PlanDeviceError, PlanPluginError, PluginError
from tenonrt.graph.attributes import restore_attrs
from tenonrt.plan.loading import load_plan
from tenonrt.plan.plan import Plan
from tenonrt.plan.program import Binding, BuildReport, Choice, KernelStep, PlanHeader, Profile, Program, kernel_steps
from tenonrt.plan.workspace import workspace_bytes
from tenonrt.plugins.registry import Registry, current_registry, using
from tenonrt.problem import Code
from tenonrt.runtime.codes import CodeCache
from tenonrt.runtime.context import ExecutionContext


class Engine:
    """Runs a plan. Contexts made from it share its weights and may run side by side."""

    def __init__(self, plan: Plan, registry: Registry | None = None) -> None:
        self.plan = plan
        self.registry = registry or current_registry()
        self.compiled = CodeCache()  # for shapes that the plan has no code for

    @classmethod
    def load(
        cls,
        path: str | Path,
        code: Literal["run", "ignore"] = "run",
        verify: bool = False,
        registry: Registry | None = None,
    ) -> Engine:
        """Read a plan. A plan with code is a program: ``code="ignore"`` compiles it anew instead of trusting it.

        verify: check the hashes of the weights too. On another machine of the same kind of device, native code runs as
        it is where the processor has what it needs; other code is compiled anew. Errors: `NotAPlanError`,
        `PlanVersionError`, `PlanDeviceError`, `PlanPluginError`, `PlanCorruptError`.
        """
        if code not in ("run", "ignore"):  # a slip must not run what was not to be trusted
            raise ValueError(f"code is {code!r}; it must be 'run' or 'ignore'")
        registry = registry or current_registry()
        plan = load_plan(Path(path), registry, verify)
        with using(registry):
            return cls(_prepare(path, plan, registry, code == "ignore"), registry)

    def save(self, path: str | Path) -> None:
        """Write the plan; the file appears whole or not at all."""
        self.plan.save(Path(path))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Engine cannot be copied or pickled: make contexts of it for other threads, and save it for "
            "other processes, which load the plan and share its weights"
        )

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
    def profiles(self) -> tuple[Profile, ...]:
        """The sizes that the engine takes, and those it was tuned for; () where its bindings say all."""
        return self.plan.header.profiles

    @property
    def report(self) -> BuildReport:
        return self.plan.report

    @property
    def choice(self) -> Choice:
        """What was selected, for `BuilderConfig.replay`."""
        return self.plan.choice

    def inspect(self) -> dict[str, Any]:
        """The header, the report and the memory as plain values, fit for JSON."""
        return {
            "header": msgspec.to_builtins(self.plan.header),
            "report": msgspec.to_builtins(self.plan.report),
            "memory": {"weights": sum(w.nbytes for w in self.plan.weights), **self._memory(self.plan.program)},
            "tuned": [
                {"sizes": t.sizes, "report": msgspec.to_builtins(t.report), "memory": self._memory(t.program)}
                for t in self.plan.tuned
            ],
        }

    def _memory(self, program: Program) -> dict[str, Any]:
        return {
            "arena": program.arena,
            "lower_bound": program.lower_bound,
            "workspace": workspace_bytes(program, self.plan.codes),
            "tensors": {t.name: str(t.type) for t in program.tensors},
        }


def _prepare(path: object, plan: Plan, registry: Registry, ignore: bool) -> Plan:
    """The plan as this machine can run it: code that does not carry over, or is not trusted, is compiled anew."""
    fingerprint = registry.device(plan.header.device).fingerprint()
    moved = fingerprint != plan.header.fingerprint
    stale = {
        step.code: step
        for program in plan.programs
        for step in kernel_steps(program)
        if not step.specialise and (ignore or _foreign(plan.codes[step.code], fingerprint, moved))
    }
    if moved:
        what = "some of its code is compiled anew, its choices kept" if stale else "its code and choices are used here"
        warnings.warn(f"{path} was tuned on another machine; {what}", stacklevel=3)
    if not stale:
        return plan
    codes = list(plan.codes)
    for number, step in stale.items():
        codes[number] = _compile_again(step, codes[number], fingerprint, registry)
    header = msgspec.structs.replace(plan.header, fingerprint=fingerprint)
    return msgspec.structs.replace(plan, header=header, codes=codes)


def _foreign(code: Code, fingerprint: Mapping[str, str], moved: bool) -> bool:
    """Whether a code may not run on a machine: native code says what it needs, other code trusts only its own."""
    return moved if code.native is None else bool(code.native.lacking(fingerprint))


def _compile_again(step: KernelStep, code: Code, fingerprint: Mapping[str, str], registry: Registry) -> Code:
    lacking = () if code.native is None else code.native.lacking(fingerprint)
    needs = f" (its code needs {' and '.join(lacking)}, which this machine lacks)" if lacking else ""
    try:
        problem = restore_attrs(code.problem, registry)
        return registry.kernel(step.kernel).compile(problem, code.tactic)
    except PluginError as error:
        what = f"step {step.name!r} must be compiled anew for this machine{needs}: {error}"
        remedy = f"; install {step.kernel.partition(':')[0]}, or build the plan again here" if lacking else ""
        raise (PlanDeviceError if lacking else PlanPluginError)(what + remedy) from error
    except Exception as error:
        raise PlanDeviceError(
            f"step {step.name!r} cannot be compiled anew for this machine{needs}: the kernel {step.kernel} raised "
            f"{error!r}; build the plan again here"
        ) from error
