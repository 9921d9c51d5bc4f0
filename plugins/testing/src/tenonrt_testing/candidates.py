"""A kernel under test with its problems and the verdicts of the trial process on every tactic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from tenonrt.builder.trial import Sample, compile_for, problem_to_compile
from tenonrt.builder.trials import TrialProcess
from tenonrt.builder.worker import TrialReply
from tenonrt.contracts import Code, Device, Kernel, Support, Tactic, TenonError
from tenonrt.plugins.discovery import Entry
from tenonrt.plugins.registry import Registry

from tenonrt_testing.problems import Found, KernelCase, find_problems

Fault = Literal["", "ended", "bounds", "inputs", "inplace", "strides", "result"]
# A kernel that hangs does so in most cases; each costs the whole time limit.
_MAX_DEATHS = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """One tactic for one problem, with the verdict of its first run."""

    case: KernelCase
    support: Support
    tactic: Tactic
    reply: TrialReply

    @property
    def name(self) -> str:
        return f"{self.case.name} [{self.tactic.key}]"

    @property
    def fault(self) -> Fault:
        """Which rule the first run broke."""
        if self.reply.ok:
            return ""
        why = self.reply.why
        if why.startswith("in place, as its tactic allows"):
            return "inplace"
        if why.startswith("on slices of larger buffers, as its tactic allows"):
            return "strides"
        if "wrote outside" in why:
            return "bounds"
        if "changed its input" in why:
            return "inputs"
        return "ended" if why.startswith(("it raised", "it ended", "it did not finish")) else "result"


@dataclass
class Subject:
    """A kernel entry under test."""

    entry: Entry
    kernel: Kernel
    device: Device
    device_name: str
    registry: Registry
    trials: TrialProcess
    _samples: dict[str, Sample] = field(default_factory=dict)
    _codes: dict[Candidate, Code] = field(default_factory=dict)

    @cached_property
    def absent(self) -> str:
        """Why its device cannot run anything here; empty when it can."""
        try:
            self.device.fingerprint()
        except TenonError as error:
            return str(error)
        return ""

    @cached_property
    def found(self) -> Found:
        return find_problems(self.entry, self.kernel, self.device_name, self.registry)

    @cached_property
    def supported(self) -> list[tuple[KernelCase, Support]]:
        """The problems that the kernel takes; one for which `supports` raises is left to the rule about that."""
        pairs = []
        for case in self.found.cases:
            support = self._support(case)
            if support.ok:
                pairs.append((case, support))
        return pairs

    def _support(self, case: KernelCase) -> Support:
        try:
            return self.kernel.supports(case.problem)
        except Exception as error:  # noqa: BLE001 - reported by the rule that calls supports() itself
            return Support(False, repr(error))

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Every tactic of every supported problem, run once in the trial process."""
        made: list[Candidate] = []
        deaths = 0
        for case, support in self.supported:
            for tactic in self._tactics(case):
                reply = self.trials.run(self.entry.id, case.problem, tactic)
                made.append(Candidate(case, support, tactic, reply))
                deaths += reply.why.startswith(("it ended", "it did not finish"))
                if deaths >= _MAX_DEATHS:
                    return made
        return made

    def _tactics(self, case: KernelCase) -> list[Tactic]:
        try:
            return list(self.kernel.tactics(case.problem))
        except Exception:  # noqa: BLE001 - reported by the rule about tactics
            return []

    @property
    def sound(self) -> list[Candidate]:
        """The candidates that passed their first run, so that they may run in this process."""
        return [candidate for candidate in self.candidates if candidate.reply.ok]

    def sample(self, case: KernelCase) -> Sample:
        if case.posed.key not in self._samples:
            with np.errstate(all="ignore"):
                self._samples[case.posed.key] = Sample.draw(case.problem, self.registry.layer_type, 2, 0)
        return self._samples[case.posed.key]

    def code(self, candidate: Candidate) -> Code:
        """Code for the candidate's sample: once, since compiling can take longer than all else.

        Machine code is that of the first run, as in a build; it needs nothing of the process that compiled it. Other
        code is made in this process, so that only `test_code_works_in_another_process` asks whether it could move.
        """
        if candidate not in self._codes:
            sample, reply = self.sample(candidate.case), candidate.reply
            if reply.native is None:
                code = compile_for(self.kernel, candidate.case.problem, candidate.tactic, candidate.support, sample)
            else:
                problem = problem_to_compile(candidate.case.problem, candidate.support, sample)
                code = Code(problem, candidate.tactic, reply.blob, reply.info, reply.native)
            self._codes[candidate] = code
        return self._codes[candidate]

    def compiled(self) -> Iterator[tuple[Candidate, Code, Sample]]:
        """Every sound candidate with code for its sample."""
        for candidate in self.sound:
            yield candidate, self.code(candidate), self.sample(candidate.case)

    def impure(self, case: KernelCase) -> bool:
        """Whether a layer draws random numbers, so that results differ from run to run."""
        return not all(self.registry.layer_type(kind).pure for kind in case.problem.kinds)
