"""Why each choice won: what else was priced, and what the whole network would cost with it instead."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from tenonrt.builder.cover import Column, Cover, CoverProblem, NoCoverError, Storage, find_cycles, least_reformats
from tenonrt.builder.offers import Offer
from tenonrt.builder.selection import Selector
from tenonrt.plan.program import AlternativeReport, ChoiceReport

# Priced of each region, the fastest columns; kept of each choice, the nearest alternatives.
_PER_REGION, _KEPT = 8, 8
# Of each layer that an alternative leaves over, so many columns are tried, and so many combinations of them.
_TRIED, _FILLS = 4, 24


def explain(selector: Selector, columns: Sequence[Column], cover: Cover) -> list[ChoiceReport]:
    """A report for each chosen column. The cost of an alternative is exact where nothing else would change with it:

    layers that it leaves to others are filled in the cheapest way that was found, all other choices stay.
    """
    explainer = _Explainer(selector, columns, cover)
    return [explainer.report(chosen) for chosen in cover.columns]


class _Explainer:
    def __init__(self, selector: Selector, columns: Sequence[Column], cover: Cover) -> None:
        self.selector = selector
        self.problem: CoverProblem = selector.problem(columns)
        self.chosen = {layer: column for column in cover.columns for layer in column.layers}
        self.before: dict[int, int] = {}  # nanoseconds of reformats as chosen, by tensor
        self.paid = cover.cost - sum(column.cost for column in cover.columns)
        self.by_layer: dict[int, list[Column]] = defaultdict(list)
        for column in sorted(columns, key=lambda c: (c.cost, c.id)):
            for layer in column.layers:
                self.by_layer[layer].append(column)
        self.demands = {tensor: [accepts] for tensor, accepts in self.problem.demands}
        self.writer: dict[int, tuple[Column, Storage]] = {}
        self.readers: dict[int, list[tuple[Column, tuple[Storage, ...]]]] = defaultdict(list)
        for column in cover.columns:
            for tensor, storage in column.writes:
                self.writer[tensor] = (column, storage)
            for tensor, accepts in column.reads:
                self.readers[tensor].append((column, accepts))

    def report(self, chosen: Column) -> ChoiceReport:
        found: dict[tuple[str, str], AlternativeReport] = {}
        own = self._name(chosen)
        tried: Counter[tuple[int, ...]] = Counter()
        for rival in dict.fromkeys(c for layer in chosen.layers for c in self.by_layer[layer]):
            tried[rival.layers] += 1
            if tried[rival.layers] > _PER_REGION:
                continue
            name = self._name(rival)
            if name == own or rival.id == chosen.id:
                continue
            priced = self._instead(rival)
            if priced is not None and (name not in found or priced.difference < found[name].difference):
                found[name] = priced
        nearest = sorted(found.values(), key=lambda a: (a.difference, a.region, a.solver))
        return ChoiceReport(*own, chosen.cost * 1e-9, tuple(nearest[:_KEPT]), max(0, len(nearest) - _KEPT))

    def _name(self, column: Column) -> tuple[str, str]:
        """Region and solver."""
        source, _ = self.selector.sources[column.id]
        if isinstance(source, Offer):
            return source.posed.region.name, source.id
        return source.name, column.id.partition("@")[0]

    def _instead(self, rival: Column) -> AlternativeReport | None:
        """What changes with this column; None where formats cannot be reconciled."""
        removed = list(dict.fromkeys(self.chosen[layer] for layer in rival.layers))
        left = sorted({layer for column in removed for layer in column.layers} - set(rival.layers))
        before = sum(column.cost for column in removed)
        best: tuple[int, int] | None = None
        for fill in islice(self._fills(left), _FILLS):
            added = [rival, *fill]
            kernels = sum(column.cost for column in added) - before
            if best is not None and kernels - self.paid >= sum(best):
                continue  # no more can be saved than what all reformats cost
            try:
                reformats = self._reformats(removed, added)
            except NoCoverError:
                continue
            if (best is None or kernels + reformats < sum(best)) and not self._circular(removed, added):
                best = kernels, reformats
        if best is None:
            return None
        return AlternativeReport(*self._name(rival), rival.cost * 1e-9, best[0] * 1e-9, best[1] * 1e-9)

    def _circular(self, removed: Sequence[Column], added: Sequence[Column]) -> bool:
        if all(len(column.writes) == 1 for column in added):
            return False
        return bool(find_cycles([*(c for c in dict.fromkeys(self.chosen.values()) if c not in removed), *added]))

    def _fills(self, left: Sequence[int]) -> Iterator[list[Column]]:
        """Columns that compute exactly these layers, cheap ones first."""
        if not left:
            yield []
            return
        inside = [c for c in self.by_layer[left[0]] if set(c.layers) <= set(left)]
        for column in inside[:_TRIED]:
            for rest in self._fills([layer for layer in left if layer not in column.layers]):
                yield [column, *rest]

    def _reformats(self, removed: Sequence[Column], added: Sequence[Column]) -> int:
        """Nanoseconds of reformats more, or less, of the tensors that the exchanged columns touch."""
        touched = {t for column in (*removed, *added) for t, _ in (*column.reads, *column.writes)}
        for tensor in touched:
            if tensor not in self.before:
                self.before[tensor] = self._after(tensor, (), ())
        return sum(self._after(t, removed, added) - self.before[t] for t in touched)

    def _after(self, tensor: int, removed: Sequence[Column], added: Sequence[Column]) -> int:
        available = {self.problem.given[tensor]} if tensor in self.problem.given else set()
        gone = {id(column) for column in removed}
        if tensor in self.writer and id(self.writer[tensor][0]) not in gone:
            available.add(self.writer[tensor][1])
        available |= {storage for column in added for t, storage in column.writes if t == tensor}
        wants = [accepts for column, accepts in self.readers.get(tensor, ()) if id(column) not in gone]
        wants += [accepts for column in added for t, accepts in column.reads if t == tensor]
        wants += self.demands.get(tensor, ())
        if not available:  # made inside a region, or nowhere any more: then nobody may read it
            if wants:
                raise NoCoverError("nothing writes it")
            return 0
        unmet = [accepts for accepts in dict.fromkeys(wants) if available.isdisjoint(accepts)]
        return least_reformats(self.problem, tensor, unmet)[0]
