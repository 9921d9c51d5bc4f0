"""The cover: the set of (region, tactic) columns that computes every layer once at the least total time.

A 0-1 program: x per column; y per (tensor, format), a reformat paid once however many read it. Every layer is in
exactly one chosen column; a column that reads a tensor in a format needs a chosen writer of it or its reformat.
Formats are linked per reading layer, not per column (the relaxation is far tighter). Cycles among chosen multi-exit
regions are cut off as they appear. Costs are integer nanoseconds; the solver is HiGHS with gap 0 and a node limit.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Storage = Hashable  # how a tensor is stored: a Format, or a Format as a slice of a larger tensor


@dataclass(frozen=True)
class Column:
    """One region with one tactic. ``reads``: (tensor, acceptable storages); ``writes``: (tensor, storage)."""

    id: str
    layers: tuple[int, ...]
    cost: int
    reads: tuple[tuple[int, tuple[Storage, ...]], ...] = ()
    writes: tuple[tuple[int, Storage], ...] = ()


@dataclass(frozen=True)
class CoverProblem:
    """Layers are 0..layers-1 in topological order. ``reformat``: cost of storing a tensor anew, None: impossible."""

    layers: int
    columns: Sequence[Column]
    reformat: Callable[[int, Storage], int | None]
    given: Mapping[int, Storage] = field(default_factory=dict)  # network inputs
    demands: Sequence[tuple[int, tuple[Storage, ...]]] = ()  # network outputs
    nodes: int = 100_000


@dataclass(frozen=True)
class Cover:
    """Chosen columns (in layer order), reformats to insert, the exact cost, and whether it is proved least."""

    columns: tuple[Column, ...]
    reformats: tuple[tuple[int, Storage], ...]
    cost: int
    optimal: bool


# Presolve pays on large programs, but releases of HiGHS have lost feasible or optimal covers in it (one random
# instance in a thousand); programs up to this many columns solve in well under a second without it.
_SMALL = 20_000


class NoCoverError(ValueError):
    """Some layer is in no column, or formats cannot be reconciled."""


def solve(problem: CoverProblem) -> Cover:
    """The least cover; `NoCoverError` names a layer that nothing computes."""
    columns = undominated(problem)
    if not problem.layers:
        return finish(problem, (), True)
    covered = {layer for column in columns for layer in column.layers}
    for layer in range(problem.layers):
        if layer not in covered:
            raise NoCoverError(f"no column computes layer {layer}")
    program = _Program(problem, columns)
    while True:
        chosen, optimal = program.solve()
        cycles = find_cycles(chosen)
        if not cycles:
            return finish(problem, chosen, optimal)
        for cycle in cycles:
            program.forbid(cycle)


def finish(problem: CoverProblem, chosen: Iterable[Column], optimal: bool) -> Cover:
    """The exact integer cost of a choice, and the reformats that it implies."""
    ordered = tuple(sorted(chosen, key=lambda c: c.layers))
    available: dict[int, set[Storage]] = defaultdict(set)
    for tensor, storage in problem.given.items():
        available[tensor].add(storage)
    for column in ordered:
        for tensor, storage in column.writes:
            available[tensor].add(storage)
    cost = sum(column.cost for column in ordered)
    wants: dict[int, list[tuple[Storage, ...]]] = defaultdict(list)
    for tensor, accepts in [*(read for column in ordered for read in column.reads), *problem.demands]:
        if available[tensor].isdisjoint(accepts) and accepts not in wants[tensor]:
            wants[tensor].append(accepts)
    reformats: list[tuple[int, Storage]] = []
    for tensor, unmet in wants.items():
        price, made = least_reformats(problem, tensor, unmet)
        reformats += [(tensor, storage) for storage in made]
        cost += price
    return Cover(ordered, tuple(reformats), cost, optimal)


def least_reformats(
    problem: CoverProblem, tensor: int, wants: Sequence[tuple[Storage, ...]]
) -> tuple[int, tuple[Storage, ...]]:
    """The cheapest storages of which every want accepts one; branches over the want with the fewest."""
    if not wants:
        return 0, ()
    accepts = min(wants, key=len)
    best: tuple[int, tuple[Storage, ...]] | None = None
    for storage in accepts:
        price = problem.reformat(tensor, storage)
        if price is None:
            continue
        rest, made = least_reformats(problem, tensor, [want for want in wants if storage not in want])
        if best is None or price + rest < best[0]:
            best = price + rest, (storage, *made)
    if best is None:
        raise NoCoverError(f"no reformat brings tensor {tensor} into any of {[str(s) for s in accepts]}")
    return best


def undominated(problem: CoverProblem) -> list[Column]:
    """Drop a column when another of its region, with the reformats to stand in for it, is no dearer (exact)."""
    regions: dict[tuple[int, ...], list[Column]] = defaultdict(list)
    for column in problem.columns:
        regions[column.layers].append(column)
    kept: list[Column] = []
    for rivals in regions.values():
        rivals.sort(key=lambda c: (c.cost, c.id))
        survivors: list[Column] = []
        for column in rivals:
            if not any(_stands_in(problem, better, column) for better in survivors):
                survivors.append(column)
        kept += survivors
    return sorted(kept, key=lambda column: (column.layers, column.id))  # the solver sees one order, so ties agree


def _stands_in(problem: CoverProblem, better: Column, worse: Column) -> bool:
    cost = better.cost
    wanted = dict(worse.reads)
    for tensor, accepts in better.reads:
        if tensor not in wanted or not set(wanted[tensor]) <= set(accepts):
            price = min((p for s in accepts if (p := problem.reformat(tensor, s)) is not None), default=None)
            if price is None:
                return False
            cost += price
    given = dict(better.writes)
    for tensor, storage in worse.writes:
        if given.get(tensor) != storage:
            price = problem.reformat(tensor, storage)
            if price is None:
                return False
            cost += price
    return cost <= worse.cost


def find_cycles(chosen: Sequence[Column]) -> list[list[Column]]:
    """One cycle per knot of chosen regions that need each other; empty when they can be ordered."""
    writer = {tensor: column for column in chosen for tensor, _ in column.writes}
    needs = {
        id(c): list({id(w): w for t, _ in c.reads if (w := writer.get(t)) is not None and w is not c}.values())
        for c in chosen
    }
    state: dict[int, int] = {}
    cycles = []
    for start in chosen:
        if id(start) in state:
            continue
        path: list[Column] = []
        stack: list[tuple[Column, int]] = [(start, 0)]
        while stack:
            column, index = stack.pop()
            if index == 0:
                state[id(column)] = 1
                path.append(column)
            above = needs[id(column)]
            if index < len(above):
                stack.append((column, index + 1))
                following = above[index]
                if state.get(id(following)) == 1:
                    cycles.append(path[path.index(following) :])
                elif id(following) not in state:
                    stack.append((following, 0))
            else:
                state[id(column)] = 2
                path.pop()
    return cycles


class _Program:
    """The 0-1 program as rows for HiGHS."""

    def __init__(self, problem: CoverProblem, columns: Sequence[Column]) -> None:
        self.problem = problem
        self.columns = columns
        self.costs: list[float] = []
        self.rows: list[tuple[dict[int, float], float, float]] = []
        self._y: dict[tuple[int, Storage], int] = {}
        self._whole: set[int] = set()  # reformats that readers may choose between: halves of two would do otherwise
        self._cost_columns()
        self._cover_rows()
        self._format_rows()

    def _cost_columns(self) -> None:
        # Equal covers are told apart by a quarter of a nanosecond spread over stable ids, so that two builds agree.
        for column in self.columns:
            tie = zlib.crc32(column.id.encode()) / 2**32 * 0.25 / max(1, self.problem.layers)
            self.costs.append(column.cost + tie)

    def _cover_rows(self) -> None:
        members: dict[int, dict[int, float]] = defaultdict(dict)
        for index, column in enumerate(self.columns):
            for layer in column.layers:
                members[layer][index] = 1.0
        self.rows += [(members[layer], 1.0, 1.0) for layer in range(self.problem.layers)]

    def _format_rows(self) -> None:
        """Per (tensor, reading layer, acceptable storages): readers ≤ writers + reformats."""
        writers: dict[tuple[int, Storage], list[int]] = defaultdict(list)
        readers: dict[tuple[int, int, tuple[Storage, ...]], list[int]] = defaultdict(list)
        for index, column in enumerate(self.columns):
            for tensor, storage in column.writes:
                writers[tensor, storage].append(index)
            for tensor, accepts in column.reads:
                readers[tensor, column.layers[0], accepts].append(index)
        for (tensor, _, accepts), indices in readers.items():
            self._format_row(tensor, accepts, dict.fromkeys(indices, -1.0), 0.0, writers)
        for tensor, accepts in self.problem.demands:
            self._format_row(tensor, accepts, {}, 1.0, writers)

    def _format_row(
        self,
        tensor: int,
        accepts: tuple[Storage, ...],
        row: dict[int, float],
        low: float,
        writers: Mapping[tuple[int, Storage], list[int]],
    ) -> None:
        if self.problem.given.get(tensor) in accepts:
            return
        for storage in accepts:
            for index in writers.get((tensor, storage), ()):
                row[index] = row.get(index, 0.0) + 1.0
            reformat = self._reformat(tensor, storage)
            if reformat is not None:
                row[reformat] = 1.0
                if len(accepts) > 1:
                    self._whole.add(reformat)
        self.rows.append((row, low, float("inf")))

    def _reformat(self, tensor: int, storage: Storage) -> int | None:
        key = (tensor, storage)
        if key not in self._y:
            price = self.problem.reformat(tensor, storage)
            if price is None:
                return None
            self._y[key] = len(self.costs)
            self.costs.append(float(price))
        return self._y[key]

    def forbid(self, cycle: Sequence[Column]) -> None:
        """Of these regions not all at once, whatever the tactics."""
        regions = {column.layers for column in cycle}
        row = {i: 1.0 for i, column in enumerate(self.columns) if column.layers in regions}
        self.rows.append((row, float("-inf"), len(regions) - 1.0))

    def solve(self) -> tuple[list[Column], bool]:
        """Chosen columns, and whether they are proved optimal within the node limit."""
        solver = self._solver()
        solver.run()
        import highspy

        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            raise NoCoverError("no choice of tactics covers every layer in compatible formats")
        if solver.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
            raise NoCoverError(f"no cover was found within {self.problem.nodes} nodes of the search ({status.name})")
        values = list(solver.getSolution().col_value)
        chosen = [c for c, x in zip(self.columns, values, strict=False) if x > 0.5]
        return chosen, status == highspy.HighsModelStatus.kOptimal

    def _solver(self) -> Any:
        import highspy
        import numpy as np

        solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        for option, value in (
            ("output_flag", False),
            ("presolve", "off" if len(self.columns) <= _SMALL else "on"),
            ("threads", 1),
            ("random_seed", 0),
            ("mip_rel_gap", 0.0),
            ("mip_abs_gap", 0.0),
            ("mip_max_nodes", self.problem.nodes),
        ):
            solver.setOptionValue(option, value)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = len(self.costs), len(self.rows)
        model.col_cost_ = np.array(self.costs) * 1000.0
        model.col_lower_, model.col_upper_ = np.zeros(len(self.costs)), np.ones(len(self.costs))
        model.row_lower_ = np.array([low for _, low, _ in self.rows])
        model.row_upper_ = np.array([high for _, _, high in self.rows])
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.cumsum([0, *(len(row) for row, _, _ in self.rows)])
        model.a_matrix_.index_ = np.array([i for row, _, _ in self.rows for i in row], np.int32)
        model.a_matrix_.value_ = np.array([v for row, _, _ in self.rows for v in row.values()])
        integer, continuous = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
        model.integrality_ = [
            integer if i < len(self.columns) or i in self._whole else continuous for i in range(len(self.costs))
        ]
        solver.passModel(model)
        return solver
