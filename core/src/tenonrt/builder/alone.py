"""Whether a small network is faster on one thread: handing a step to another core can cost as much as the step."""

from __future__ import annotations

import hashlib

import msgspec

from tenonrt.builder.contests import least_seconds, one_run
from tenonrt.builder.finalists import is_repeatable
from tenonrt.builder.tuner import Tuner
from tenonrt.errors import ExecutionError
from tenonrt.graph.graph import Graph
from tenonrt.plan.plan import BuildRecord, Plan
from tenonrt.runtime.runner import ProgramRunner, Resources

# Above this the hand-overs, half a microsecond for each step, are lost in the work.
_SMALL_SECONDS = 500e-6
_LEAST_ROUNDS, _ROUNDS = 3, 200
_WORTH_WAITING_FOR = 0.95  # one thread leaves a core to others, and is less disturbed by them


def on_fewest_threads(plan: Plan, graph: Graph, tuner: Tuner) -> Plan:
    """The plan, for one thread where it is a small one that is no slower so. Its bits do not depend on threads."""
    if plan.header.threads == 1 or not is_repeatable(graph):
        return plan
    alone = msgspec.structs.replace(plan, header=msgspec.structs.replace(plan.header, threads=1))
    try:
        seconds = _times([plan, alone], graph, tuner)
    except ExecutionError:  # drawn inputs do not suit every network
        return plan
    if seconds is None or seconds[0] < seconds[1] * _WORTH_WAITING_FOR:
        return plan
    note = f"on one thread: {seconds[1] * 1e6:.1f} us, on {plan.header.threads} {seconds[0] * 1e6:.1f} us"
    report = msgspec.structs.replace(plan.report, notes=(*plan.report.notes, note))
    return msgspec.structs.replace(alone, record=BuildRecord(plan.choice, report))


def _times(plans: list[Plan], graph: Graph, tuner: Tuner) -> list[float] | None:
    """The least seconds of each; None where the network is not small."""
    seconds = least_seconds(
        [f"on {plan.header.threads} threads {_digest(plan)}" for plan in plans],
        lambda: [ProgramRunner(plan.program, Resources(plan, tuner.registry, tuner.device, 0)) for plan in plans],
        graph,
        tuner,
        lambda rounds, least: rounds == _ROUNDS or (rounds == _LEAST_ROUNDS and least[0] > _SMALL_SECONDS),
        one_run,
    )
    return seconds if seconds[0] <= _SMALL_SECONDS else None


def _digest(plan: Plan) -> str:
    """The program and its kernels as a value."""
    return hashlib.blake2b(msgspec.msgpack.encode((plan.program, plan.codes)), digest_size=16).hexdigest()
