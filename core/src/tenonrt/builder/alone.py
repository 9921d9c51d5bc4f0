"""Whether a small network is faster on one thread: handing a step to another core can cost as much as the step."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace

import msgspec

from tenonrt.builder.cache import CacheEntry
from tenonrt.builder.finalists import drawn_inputs, is_repeatable
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import ExecutionError
from tenonrt.graph.graph import Graph
from tenonrt.plan.plan import Plan
from tenonrt.runtime.runner import ProgramRunner, Resources

# Above this the hand-overs, half a microsecond for each step, are lost in the work.
_SMALL_SECONDS = 500e-6
_ROUNDS = 200
_WORTH_WAITING_FOR = 0.95  # one thread leaves a core to others, and is less disturbed by them


def on_fewest_threads(plan: Plan, graph: Graph, tuner: Tuner) -> Plan:
    """The plan, for one thread where it is a small one that is no slower so. Its bits do not depend on threads."""
    if plan.header.threads == 1 or not is_repeatable(graph):
        return plan
    alone = replace(plan, header=msgspec.structs.replace(plan.header, threads=1))
    try:
        seconds = _times([plan, alone], graph, tuner)
    except ExecutionError:  # drawn inputs do not suit every network
        return plan
    if seconds is None or seconds[0] < seconds[1] * _WORTH_WAITING_FOR:
        return plan
    note = f"on one thread: {seconds[1] * 1e6:.1f} us, on {plan.header.threads} {seconds[0] * 1e6:.1f} us"
    report = msgspec.structs.replace(plan.report, notes=(*plan.report.notes, note))
    return replace(alone, report=report)


def _times(plans: list[Plan], graph: Graph, tuner: Tuner) -> list[float] | None:
    """The least seconds of each, from the cache or run in turns; None where the network is not small."""
    keys = [tuner.cache.key(f"on {plan.header.threads} threads {_digest(plan)}", "", "", "") for plan in plans]
    cached = [tuner.cache.get(key) for key in keys]
    known = [entry.seconds for entry in cached if entry is not None and entry.seconds is not None]
    if len(known) == len(plans):
        return known if known[0] <= _SMALL_SECONDS else None
    tuner.locked("times of a whole program on one thread and on several")
    runners = [ProgramRunner(plan.program, Resources(plan, tuner.registry, tuner.device, 0)) for plan in plans]
    inputs, times = drawn_inputs(graph), [float("inf")] * len(plans)
    for number in range(_ROUNDS):
        for index, runner in enumerate(runners):
            runner.run(inputs)  # this one finds the threads of the other awake
            start = time.perf_counter()
            runner.run(inputs)
            times[index] = min(times[index], time.perf_counter() - start)
        if number == 2 and times[0] > _SMALL_SECONDS:
            break
    for key, seconds in zip(keys, times, strict=True):
        tuner.cache.put(key, CacheEntry(seconds=seconds))
    return times if times[0] <= _SMALL_SECONDS else None


def _digest(plan: Plan) -> str:
    """The program and its kernels as a value."""
    codes = [(code.problem, code.tactic) for code in plan.codes]
    return hashlib.blake2b(msgspec.msgpack.encode((plan.program, codes)), digest_size=16).hexdigest()
