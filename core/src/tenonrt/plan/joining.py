"""Programs for single sets of sizes join a plan: what they share with it, packed weights above all, is kept once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from tenonrt.plan.plan import BuildRecord, Plan
from tenonrt.plan.program import UNPLACED, ControlStep, Profile, Program, Requirement, Step, TunedProgram
from tenonrt.problem import Code
from tenonrt.types import Array

Content = tuple[str, tuple[int, ...], bytes]


class Joining:
    """A plan that grows. Codes and weights that are equal byte for byte are stored once."""

    def __init__(self, plan: Plan, profiles: Sequence[Profile]) -> None:
        self._plan = plan
        self._profiles = tuple(profiles)
        self._codes = list(plan.codes)
        self._weights = list(plan.weights)
        self._code_index = {msgspec.msgpack.encode(code): n for n, code in enumerate(self._codes)}
        self._weight_index = {content(array): n for n, array in reversed(list(enumerate(self._weights)))}
        self._tuned: list[TunedProgram] = []
        self._requires = {need.distribution: need for need in plan.header.requires}
        self._choices = [plan.choice]

    def add(self, sizes: Mapping[str, int], plan: Plan) -> None:
        """Take in the plan of the same network at these sizes."""
        codes = [self._code(code) for code in plan.codes]
        weights = [self._weight(array) for array in plan.weights]
        program = _renumbered(plan.program, codes, weights)
        self._tuned.append(TunedProgram(dict(sizes), program, plan.report))
        self._choices.append(plan.choice)
        for need in plan.header.requires:
            self._requires.setdefault(need.distribution, need)

    def plan(self) -> Plan:
        """All of them in one."""
        requires: tuple[Requirement, ...] = tuple(self._requires.values())
        header = msgspec.structs.replace(self._plan.header, requires=requires, profiles=self._profiles)
        choice = msgspec.structs.replace(self._choices[0], tuned=tuple(self._choices[1:]))
        return msgspec.structs.replace(
            self._plan,
            header=header,
            codes=self._codes,
            weights=self._weights,
            record=BuildRecord(choice, self._plan.report),
            tuned=tuple(self._tuned),
        )

    def _code(self, code: Code) -> int:
        key = msgspec.msgpack.encode(code)
        if key not in self._code_index:
            self._code_index[key] = len(self._codes)
            self._codes.append(code)
        return self._code_index[key]

    def _weight(self, array: Array) -> int:
        key = content(array)
        if key not in self._weight_index:
            self._weight_index[key] = len(self._weights)
            self._weights.append(array)
        return self._weight_index[key]


def content(array: Array) -> Content:
    """What an array holds, in few bytes: 1 GB/s, which is little beside the making of it."""
    kind, shape = str(array.dtype), array.shape
    if array.dtype.hasobject:
        array = np.frombuffer(msgspec.msgpack.encode([str(value) for value in array.reshape(-1)]), np.uint8)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return kind, shape, hashlib.blake2b(data, digest_size=16).digest()


def _renumbered(program: Program, codes: Sequence[int], weights: Sequence[int]) -> Program:
    """The program with other numbers for its codes and weights."""
    tensors = tuple(
        t if t.weight == UNPLACED else msgspec.structs.replace(t, weight=weights[t.weight]) for t in program.tensors
    )
    steps = tuple(_renumbered_step(step, codes, weights) for step in program.steps)
    return msgspec.structs.replace(program, tensors=tensors, steps=steps)


def _renumbered_step(step: Step, codes: Sequence[int], weights: Sequence[int]) -> Step:
    if isinstance(step, ControlStep):
        graphs = tuple(_renumbered(graph, codes, weights) for graph in step.graphs)
        return msgspec.structs.replace(step, graphs=graphs)
    packed = tuple(weights[number] for number in step.packed)
    return msgspec.structs.replace(step, code=codes[step.code], packed=packed)
