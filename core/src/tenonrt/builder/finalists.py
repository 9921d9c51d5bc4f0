"""The last word on close candidates: they run in place, each step's j-th one in the j-th of a few trial programs.

Only in place are weights as cold and inputs as near as they will be. Rivals of one region that read and write the same
storages are exchanged without changing anything around them, so all steps change theirs at once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tenonrt.builder.cache import CacheEntry
from tenonrt.builder.constants import Constants
from tenonrt.builder.cover import Column, Cover
from tenonrt.builder.offers import Offer
from tenonrt.builder.selection import Selector
from tenonrt.builder.sizes import with_elements
from tenonrt.builder.steps import StepTimes
from tenonrt.builder.tuner import Tuner
from tenonrt.builder.watching import Watch
from tenonrt.contracts import draw
from tenonrt.dims import symbols
from tenonrt.errors import ExecutionError
from tenonrt.graph.graph import Graph
from tenonrt.plan.plan import BuildRecord, Plan
from tenonrt.plan.program import BuildReport, Choice, PlanHeader, Program
from tenonrt.plugins.code_version import code_version
from tenonrt.runtime.runner import ProgramRunner, Resources
from tenonrt.types import Array, TensorType, is_float

# Beside the winner, so many rivals that are within this factor of its time.
_RIVALS, _FACTOR = 3, 1.35
# Times that differ by less are equal, and the lower id decides, so that two builds agree.
_TIE = 0.01
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 2, 30, 5.0
# While other work disturbs them, runs go on for so many times as long.
_PATIENCE = 3

Lower = Callable[[Cover], tuple[Program, Constants]]


@dataclass(frozen=True)
class Field:
    """The columns that may stand for one chosen column, it among them; ``group`` is equal where one decision holds.

    Equal problems in equal formats decide together: they have more runs between them than each has alone.
    """

    columns: tuple[Column, ...]
    group: tuple[str, ...]


def decide_in_place(selector: Selector, columns: Sequence[Column], cover: Cover, tuner: Tuner, lower: Lower) -> Cover:
    """The cover with the winners of the finals."""
    fields = find_fields(selector, columns, cover, tuner)
    if not fields or not is_repeatable(selector.graph):
        return cover
    finalists = [column for field in fields.values() for column in field.columns]
    keys = {c.id: key for c, key in zip(finalists, _keys(selector, cover, finalists, tuner), strict=True)}
    cached = {name: tuner.cache.get(key) for name, key in keys.items()}
    seconds = {name: entry.seconds for name, entry in cached.items() if entry is not None and entry.seconds is not None}
    if len(seconds) < len(keys):
        tuner.locked(f"{len(keys) - len(seconds)} times in place")
        try:
            seconds = dict(_measure(selector, cover, fields, tuner, lower))
        except ExecutionError as error:
            tuner.notes.append(f"finalists were not timed in place, the first times decide: {error}")
            return cover
        for name, found in seconds.items():
            tuner.cache.put(keys[name], CacheEntry(seconds=found))
    return _with_winners(selector, cover, fields, seconds, tuner)


def find_fields(selector: Selector, columns: Sequence[Column], cover: Cover, tuner: Tuner) -> dict[str, Field]:
    """The finalists, by the id of the chosen column, where it has close rivals.

    None leaves the device's program where the chosen one does not: the steps after it bear what that costs, and are
    not asked.
    """
    same: dict[tuple[object, ...], list[Column]] = {}
    for column in columns:
        if _general(selector, column):
            same.setdefault((column.layers, column.reads, column.writes), []).append(column)
    fields: dict[str, Field] = {}
    for chosen in cover.columns:
        if not _general(selector, chosen):
            continue
        stays = not leaves(selector, chosen, tuner)
        rivals = [c for c in same[chosen.layers, chosen.reads, chosen.writes] if c.id != chosen.id]
        rivals = [c for c in rivals if not (stays and leaves(selector, c, tuner))]
        close = sorted((c for c in rivals if c.cost <= _FACTOR * chosen.cost), key=lambda c: (c.cost, c.id))
        finalists = (chosen, *close[:_RIVALS])
        offers = [_offer(selector, column) for column in finalists]
        if close:
            fields[chosen.id] = Field(finalists, (offers[0].posed.key, *(offer.id for offer in offers)))
    return fields


def leaves(selector: Selector, column: Column, tuner: Tuner) -> bool:
    """Whether a column is a step outside the device's program."""
    source, _ = selector.sources[column.id]
    known = tuner.known(source) if isinstance(source, Offer) else None
    return isinstance(source, Offer) and not (known is not None and known.native)


def _offer(selector: Selector, column: Column) -> Offer:
    source, _ = selector.sources[column.id]
    assert isinstance(source, Offer)
    return source


def _general(selector: Selector, column: Column) -> bool:
    source, _ = selector.sources[column.id]
    return isinstance(source, Offer) and source.general


def is_repeatable(graph: Graph) -> bool:
    """Whether drawn inputs are enough to run a graph: no values steer it, and its sizes have an end."""
    host = any(tensor.info.place == "host" for tensor in graph.inputs)
    bounded = all(s.upper is not None for tensor in graph.inputs for d in tensor.type.shape for s in symbols(d))
    return bounded and not host and not any(layer.graphs for layer in graph.layers)


def network_digest(selector: Selector, cover: Cover) -> str:
    """A whole network as a cover computes it."""
    digest = hashlib.blake2b(digest_size=16)
    for column in cover.columns:
        source, _ = selector.sources[column.id]
        digest.update(f"{column.id}\0".encode())
        if isinstance(source, Offer):
            digest.update(f"{source.posed.key}\0{code_version(source.entry)}\0".encode())
    return digest.hexdigest()


def _keys(selector: Selector, cover: Cover, columns: Sequence[Column], tuner: Tuner) -> list[str]:
    """What times in place are kept by: the whole network around a step, and its tactic."""
    network, keys = network_digest(selector, cover), []
    for column in columns:
        offer = _offer(selector, column)
        where = f"in place {network} {column.layers}"
        keys.append(tuner.cache.key(where, offer.entry.id, code_version(offer.entry), offer.tactic.key))
    return keys


def _measure(
    selector: Selector, cover: Cover, fields: Mapping[str, Field], tuner: Tuner, lower: Lower
) -> dict[str, float]:
    """Seconds of every finalist in place, by column, as isolated times are told."""
    programs = []
    for j in range(max(len(field.columns) for field in fields.values())):
        fielded = {chosen: field.columns[j % len(field.columns)] for chosen, field in fields.items()}
        changed = replace(cover, columns=tuple(fielded.get(c.id, c) for c in cover.columns))
        names = {_offer(selector, column).posed.region.name: column.id for column in fielded.values()}
        programs.append((trial_runner(*lower(changed), tuner), names))
    # What idle threads of libraries do to steps in Python looks like other work, and never ends.
    watched = not any(leaves(selector, column, tuner) for column in cover.columns if _general(selector, column))
    found = _run_in_turns(programs, drawn_inputs(selector.graph), Watch(tuner.config.threads) if watched else None)
    tuner.counts["finalists timed in place"] += len(found)
    return found


def _run_in_turns(
    programs: Sequence[tuple[ProgramRunner, Mapping[str, str]]], inputs: Sequence[Array], watch: Watch | None
) -> dict[str, float]:
    """Seconds of the steps that programs come with names for, by these."""
    for runner, _ in programs:  # memory that is touched for the first time
        runner.run(inputs)
    times, start = StepTimes(watch), time.monotonic()
    for number in range(1, _MOST_ROUNDS * _PATIENCE + 1):
        for runner, names in programs:
            times.run(runner, inputs, names)
        patience = 1 if times.settled else _PATIENCE
        late = time.monotonic() - start > _SECONDS * patience
        if number >= _MOST_ROUNDS * patience or (number >= _LEAST_ROUNDS and late):
            break
    return times.seconds()


def trial_runner(program: Program, constants: Constants, tuner: Tuner) -> ProgramRunner:
    """A program as an engine would run it."""
    threads = tuner.config.threads
    header = PlanHeader("", 0, "", "", tuner.config.device, {}, (), (), threads)  # never written
    report = BuildReport((), (), {}, (), (), 0.0, True)
    plan = Plan(header, program, constants.codes, constants.weights, BuildRecord(Choice({}), report))
    return ProgramRunner(program, Resources(plan, tuner.registry, tuner.device, 0))


def drawn_inputs(graph: Graph) -> list[Array]:
    """Inputs of a network at the sizes it is tuned for."""
    rng = np.random.default_rng(0)
    tuned = {s.name: s.tuned_at for tensor in graph.inputs for d in tensor.type.shape for s in symbols(d)}
    sizes = with_elements([type for type in _types(graph) if type.symbol_names() <= tuned.keys()], tuned)
    types = [tensor.type.substitute(sizes) for tensor in graph.inputs]
    # Integers are indices more often than not, and zero is one of every table.
    return [draw(t, rng) if is_float(t.dtype) else np.zeros(t.concrete({}), t.numpy) for t in types]


def _types(graph: Graph) -> list[TensorType]:
    return [t.type for t in graph.inputs] + [t.type for layer in graph.layers for t in layer.outputs]


def _with_winners(
    selector: Selector, cover: Cover, fields: Mapping[str, Field], seconds: Mapping[str, float], tuner: Tuner
) -> Cover:
    totals: dict[tuple[str, ...], list[float]] = {}
    for field in fields.values():
        mine = [seconds.get(column.id) or float("inf") for column in field.columns]
        sums = totals.setdefault(field.group, [0.0] * len(mine))
        totals[field.group] = [a + b for a, b in zip(sums, mine, strict=True)]
    winners: dict[str, Column] = {}
    for chosen, field in fields.items():
        sums = totals[field.group]
        close = [c for c, total in zip(field.columns, sums, strict=True) if total <= min(sums) * (1 + _TIE)]
        preferred = set() if tuner.config.prefer is None else {*tuner.config.prefer.regions.items()}
        kept = [c for c in close if selector.recorded_as(c) in preferred]
        winners[chosen] = min(kept or close, key=lambda c: _offer(selector, c).id)
    changed = sum(winner.id != chosen for chosen, winner in winners.items())
    tuner.notes.append(f"in place: {changed} of {len(fields)} contested steps changed their tactic")
    ordered = tuple(winners.get(c.id, c) for c in cover.columns)
    cost = cover.cost + sum(c.cost for c in ordered) - sum(c.cost for c in cover.columns)
    return replace(cover, columns=ordered, cost=cost)
