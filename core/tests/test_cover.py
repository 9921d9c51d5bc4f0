"""The cover against enumeration of every choice on small random instances."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.builder.cover import Column, Cover, CoverProblem, NoCoverError, find_cycles, finish, solve, undominated

FORMATS = ("linear", "nhwc", "blocked")


def random_problem(seed: int) -> CoverProblem:
    """4 to 7 layers with one output each (tensor i + 1 is that of layer i; tensor 0 is the input), random regions."""
    rng = random.Random(seed)
    count = rng.randint(4, 7)
    reads = [sorted(rng.sample(range(i + 1), min(i + 1, rng.randint(1, 2)))) for i in range(count)]
    outputs = {count} | {t for t in range(1, count) if not any(t in r for r in reads) or rng.random() < 0.1}
    formats = FORMATS[: rng.randint(2, 3)]
    prices = {(t, f): rng.choice([0, 1, 2, 3, 5, 8, None]) for t in range(count + 1) for f in (*formats, "slice")}
    columns: list[Column] = []
    for region in regions(rng, reads):
        inside = {layer + 1 for layer in region}
        inputs = sorted({t for layer in region for t in reads[layer]} - inside)
        written = [
            t for t in sorted(inside) if t in outputs or any(t in reads[i] for i in range(count) if i not in region)
        ]
        for number in range(rng.randint(1, 3)):
            accepts = tuple((t, accepted(rng, formats)) for t in inputs)
            stores = tuple((t, rng.choice((*formats, "slice"))) for t in written)
            cost = rng.randint(1, 6 * len(region))
            columns.append(Column(f"{region}/{number}", tuple(region), cost, accepts, stores))
    demands = tuple((t, accepted(rng, formats)) for t in sorted(outputs))
    return CoverProblem(count, columns, lambda t, s: prices[t, s], {0: "linear"}, demands)


def accepted(rng: random.Random, formats: Sequence[str]) -> tuple[str, ...]:
    """One storage mostly; sometimes several, a slice among them."""
    chosen = rng.sample(formats, rng.choice([1, 1, 2, len(formats)]))
    return (*chosen, *(["slice"] if rng.random() < 0.3 else []))


def regions(rng: random.Random, reads: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Every layer alone (mostly), and random convex sets of two or three, also with several exits."""
    count = len(reads)
    yield from ([i] for i in range(count) if rng.random() < 0.95)
    reach = ancestors(reads)
    for size in (2, 3):
        for chosen in itertools.combinations(range(count), size):
            between = {
                m for m in range(count) if any(a in reach[m] for a in chosen) and any(m in reach[b] for b in chosen)
            }
            if between <= set(chosen) and rng.random() < 0.25:
                yield list(chosen)


def ancestors(reads: Sequence[Sequence[int]]) -> list[set[int]]:
    found: list[set[int]] = []
    for layer in range(len(reads)):
        above = [t - 1 for t in reads[layer] if t > 0]
        found.append({layer, *above, *(a for p in above for a in found[p])} - {layer})
    return found


def all_covers(problem: CoverProblem) -> Iterator[tuple[Column, ...]]:
    """Every set of columns that computes each layer once and can be put in order."""

    def extend(chosen: tuple[Column, ...], done: frozenset[int]) -> Iterator[tuple[Column, ...]]:
        open_layers = [i for i in range(problem.layers) if i not in done]
        if not open_layers:
            yield chosen
        for column in problem.columns:
            if open_layers and open_layers[0] in column.layers and done.isdisjoint(column.layers):
                yield from extend((*chosen, column), done | set(column.layers))

    return (cover for cover in extend((), frozenset()) if can_be_ordered(cover))


def can_be_ordered(chosen: Sequence[Column]) -> bool:
    waiting, available = list(chosen), {0}
    while waiting:
        ready = [c for c in waiting if all(t in available for t, _ in c.reads)]
        if not ready:
            return False
        available |= {t for c in ready for t, _ in c.writes}
        waiting = [c for c in waiting if c not in ready]
    return True


def reformat_cost(problem: CoverProblem, chosen: Sequence[Column]) -> int | None:
    """The least reformats, by trying every set of storages for each tensor."""
    stored = [*problem.given.items(), *(w for c in chosen for w in c.writes)]
    wants = [*(r for c in chosen for r in c.reads), *problem.demands]
    total = 0
    for tensor in {t for t, _ in wants}:
        have = {s for t, s in stored if t == tensor}
        sets = [set(accepts) for t, accepts in wants if t == tensor]
        best = None
        options = [(s, p) for s in (*FORMATS, "slice") if (p := price(problem, tensor, s)) is not None]
        for mask in itertools.product((False, True), repeat=len(options)):
            made = {s for (s, _), take in zip(options, mask, strict=True) if take}
            cost = sum(p for (_, p), take in zip(options, mask, strict=True) if take)
            if all(s & (have | made) for s in sets) and (best is None or cost < best):
                best = cost
        if best is None:
            return None
        total += best
    return total


def price(problem: CoverProblem, tensor: int, storage: str) -> int | None:
    try:
        return problem.reformat(tensor, storage)
    except KeyError:  # a format that this instance does not have
        return None


def least(problem: CoverProblem) -> int | None:
    costs = []
    for chosen in all_covers(problem):
        reformats = reformat_cost(problem, chosen)
        if reformats is not None:
            costs.append(sum(c.cost for c in chosen) + reformats)
    return min(costs, default=None)


def check(problem: CoverProblem, cover: Cover) -> None:
    """A cover is what it claims: exact, ordered, every want met, the cost the sum of its parts."""
    assert sorted(i for c in cover.columns for i in c.layers) == list(range(problem.layers))
    assert can_be_ordered(cover.columns)
    stored = {*problem.given.items(), *(w for c in cover.columns for w in c.writes), *cover.reformats}
    for tensor, accepts in [*(r for c in cover.columns for r in c.reads), *problem.demands]:
        assert any((tensor, s) in stored for s in accepts)
    priced = [problem.reformat(t, s) for t, s in cover.reformats]
    assert cover.cost == sum(c.cost for c in cover.columns) + sum(p for p in priced if p is not None)
    assert None not in priced
    assert len(set(cover.reformats)) == len(cover.reformats)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32))
def test_the_cover_is_the_least_of_all(seed: int) -> None:
    problem = random_problem(seed)
    expected = least(problem)
    if expected is None:
        with pytest.raises(NoCoverError):
            solve(problem)
        return
    cover = solve(problem)
    check(problem, cover)
    assert cover.optimal
    assert cover.cost == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_dropping_dominated_columns_keeps_the_least_cost(seed: int) -> None:
    problem = random_problem(seed)
    kept = undominated(problem)
    assert {c.id for c in kept} <= {c.id for c in problem.columns}
    assert least(replace(problem, columns=kept)) == least(problem)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_the_columns_does_not_matter(seed: int, rng: random.Random) -> None:
    """Costs of 1 only, so that most instances have ties."""
    problem = random_problem(seed)
    tied = replace(problem, columns=[replace(c, cost=len(c.layers)) for c in problem.columns])
    shuffled = replace(tied, columns=rng.sample(list(tied.columns), len(tied.columns)))
    assert outcome(tied) == outcome(shuffled)


def outcome(problem: CoverProblem) -> Any:
    try:
        cover = solve(problem)
    except NoCoverError:
        return None
    return [c.id for c in cover.columns], sorted(map(str, cover.reformats)), cover.cost


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_finish_finds_the_least_reformats(seed: int) -> None:
    problem = random_problem(seed)
    for chosen in itertools.islice(all_covers(problem), 20):
        expected = reformat_cost(problem, chosen)
        if expected is None:
            with pytest.raises(NoCoverError):
                finish(problem, chosen, optimal=True)
        else:
            assert finish(problem, chosen, optimal=True).cost == sum(c.cost for c in chosen) + expected


@settings(deadline=None)
@given(st.integers(0, 2**32))
def test_finish_finds_the_least_reformats_of_one_tensor_with_many_readers(seed: int) -> None:
    rng = random.Random(seed)
    storages = (*FORMATS, "slice")
    prices = {s: rng.choice([0, 1, 2, 3, 4, 5, None]) for s in storages}
    columns = [Column("w", (0,), 1, (), ((0, "other"),))]
    wants = [tuple(rng.sample(storages, rng.randint(1, 3))) for _ in range(rng.randint(1, 7))]
    columns += [Column(f"r{i}", (i,), 1, ((0, accepts),), ((i, "x"),)) for i, accepts in enumerate(wants, 1)]
    problem = CoverProblem(len(columns), columns, lambda t, s: prices[s])
    expected = reformat_cost(problem, columns)
    for answer in (lambda: finish(problem, columns, True), lambda: solve(problem)):
        if expected is None:
            with pytest.raises(NoCoverError):
                answer()
        else:
            assert answer().cost == len(columns) + expected


def test_one_dear_reformat_may_serve_two_readers() -> None:
    """Readers accept {a, c} and {b, c}: c at 3 is less than a and b at 2 each."""
    prices: dict[Any, int] = {"a": 2, "b": 2, "c": 3}
    writer = Column("w", (0,), 1, (), ((0, "x"),))
    readers = [Column(f"r{i}", (i,), 1, ((0, (s, "c")),), ((i, "x"),)) for i, s in ((1, "a"), (2, "b"))]
    problem = CoverProblem(3, [writer, *readers], lambda t, s: prices.get(s))
    assert solve(problem).reformats == ((0, "c"),)
    assert solve(problem).cost == 6


def test_reformats_are_whole() -> None:
    """Three readers accept two of three storages each; halves of all three would be cheaper, and impossible."""
    writer = Column("w", (0,), 1, (), ((0, "x"),))
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    readers = [Column(f"r{i}", (i,), 1, ((0, pair),), ((i, "x"),)) for i, pair in enumerate(pairs, 1)]
    dear = Column("dear", (0,), 3, (), tuple((0, s) for s in "abc"))
    problem = CoverProblem(4, [writer, *readers, dear], lambda t, s: 2 if s in ("a", "b", "c") else None)
    cover = solve(problem)
    assert [c.id for c in cover.columns] == ["dear", "r1", "r2", "r3"]
    assert cover.cost == 6


def crossing() -> list[Column]:
    """Layers 0 -> 3 and 1 -> 2: the regions {0, 2} and {1, 3} need each other."""
    single = [
        Column("0", (0,), 10, (), ((0, "x"),)),
        Column("1", (1,), 10, (), ((1, "x"),)),
        Column("2", (2,), 10, ((1, ("x",)),), ((2, "x"),)),
        Column("3", (3,), 10, ((0, ("x",)),), ((3, "x"),)),
    ]
    first = Column("02", (0, 2), 1, ((1, ("x",)),), ((0, "x"), (2, "x")))
    second = Column("13", (1, 3), 1, ((0, ("x",)),), ((1, "x"), (3, "x")))
    return [*single, first, second]


def test_regions_that_need_each_other_are_not_both_chosen() -> None:
    columns = crossing()
    assert [sorted(c.id for c in cycle) for cycle in find_cycles(columns[-2:])] == [["02", "13"]]
    cover = solve(CoverProblem(4, columns, lambda t, s: None))
    assert cover.cost == 21
    assert can_be_ordered(cover.columns) or {c.id for c in cover.columns} in ({"02", "1", "3"}, {"13", "0", "2"})


def test_a_layer_that_nothing_computes_is_named() -> None:
    with pytest.raises(NoCoverError, match="no column computes layer 1"):
        solve(CoverProblem(2, [Column("0", (0,), 1)], lambda t, s: None))


def test_formats_that_nothing_reconciles_are_an_error() -> None:
    columns = [Column("w", (0,), 1, (), ((0, "a"),)), Column("r", (1,), 1, ((0, ("b",)),))]
    with pytest.raises(NoCoverError):
        solve(CoverProblem(2, columns, lambda t, s: None))


def test_a_network_without_layers_costs_its_reformats() -> None:
    problem = CoverProblem(0, [], lambda t, s: 7, {0: "linear"}, [(0, ("blocked",))])
    assert solve(problem).cost == 7
    assert solve(replace(problem, demands=[(0, ("linear",))])).cost == 0


def test_equal_costs_prefer_the_same_column_whatever_the_order() -> None:
    twins = [Column(name, (0,), 5, (), ((0, name),)) for name in ("p", "q", "r")]
    problem = CoverProblem(1, twins, lambda t, s: None, demands=[(0, ("p", "q", "r"))])
    chosen = {solve(replace(problem, columns=list(order))).columns[0].id for order in itertools.permutations(twins)}
    assert len(chosen) == 1


def test_a_node_limit_that_leaves_no_choice_says_so() -> None:
    """Stopped before anything feasible is known, the answer is an error, never an empty cover."""
    rng = random.Random(1)
    for seed in range(20):
        problem = replace(random_problem(rng.randint(0, 2**30) + seed), nodes=0)
        try:
            check(problem, solve(problem))
        except NoCoverError:
            continue
