"""Explanations against the cost of whole covers: an alternative's difference is what exchanging it really costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.builder.cover import Column, CoverProblem, finish, solve
from tenonrt.builder.explaining import explain
from tenonrt.builder.strategies import without_near_ties
from tenonrt.cli.explained import verdict
from tenonrt.plan.program import AlternativeReport, ChoiceReport

FORMATS = ("a", "b")


def chain(costs: dict[tuple[tuple[int, ...], str, str], int], layers: int) -> tuple[Any, list[Column]]:
    """A chain of layers, tensor i between layers i - 1 and i; one column for each of ``costs``."""
    columns = []
    for number, ((members, reads, writes), cost) in enumerate(sorted(costs.items())):
        name = f"k{number}@{'+'.join(map(str, members))}"
        columns.append(Column(name, members, cost, ((members[0], (reads,)),), ((members[-1] + 1, writes),)))

    def problem(given: list[Column]) -> CoverProblem:
        return CoverProblem(layers, given, lambda tensor, storage: 7, {0: "a"}, [(layers, ("a",))])

    sources = {c.id: (SimpleNamespace(name=c.id.partition("@")[2]), ()) for c in columns}
    return SimpleNamespace(problem=problem, sources=sources), columns


@st.composite
def chains(draw: st.DrawFn) -> tuple[Any, list[Column], int]:
    layers = draw(st.integers(2, 4))
    regions = [(i,) for i in range(layers)] + [(i, i + 1) for i in range(layers - 1)]
    costs = {}
    for region in regions:
        for reads in FORMATS:
            for writes in FORMATS:
                if len(region) == 1 or draw(st.booleans()):
                    costs[region, reads, writes] = draw(st.integers(1, 30))
    return (*chain(costs, layers), layers)


@settings(max_examples=12, deadline=None)
@given(case=chains())
def test_differences_are_those_of_whole_covers(case: tuple[Any, list[Column], int]) -> None:
    selector, columns, _ = case
    cover = solve(selector.problem(columns))
    for chosen, report in zip(cover.columns, explain(selector, columns, cover), strict=True):
        assert report.region == chosen.id.partition("@")[2]
        for other in report.alternatives:
            assert other.difference >= -1e-12, "the cover is the least, so nothing can be cheaper"
            rivals = [c for c in columns if c.id.partition("@")[::2] == (other.solver, other.region)]
            assert any(
                abs(least_with(selector, columns, cover, rival) - other.difference * 1e9) < 1e-3 for rival in rivals
            )


def least_with(selector: Any, columns: list[Column], cover: Any, rival: Column) -> float:
    """The least cost with this column when all chosen ones that do not overlap it stay."""
    kept = [c for c in cover.columns if not set(c.layers) & set(rival.layers)]
    left = {layer for c in cover.columns if c not in kept for layer in c.layers} - set(rival.layers)
    inside = [c for c in columns if set(c.layers) <= left]
    problem = selector.problem([*kept, rival, *inside])
    return float(solve(problem).cost - finish(selector.problem(columns), cover.columns, True).cost)


def test_near_ties_cost_the_same_where_columns_can_be_exchanged() -> None:
    columns = [
        Column("slow", (0,), 1019, ((0, ("a",)),), ((1, "a"),)),
        Column("fast", (0,), 1000, ((0, ("a",)),), ((1, "a"),)),
        Column("slower", (0,), 1021, ((0, ("a",)),), ((1, "a"),)),
        Column("other format", (0,), 1001, ((0, ("b",)),), ((1, "a"),)),
    ]
    assert [c.cost for c in without_near_ties(columns)] == [1000, 1000, 1021, 1001]


@pytest.mark.parametrize(
    ("kernels", "reformats", "words"),
    [
        (5e-6, 2e-6, "by 7.00 µs: 5.00 µs of kernels and 2.00 µs of reformats"),
        (5e-6, 0.0, "by 5.00 µs of kernels"),
        (-5e-6, 9e-6, "whose kernels are 5.00 µs faster: its reformats cost 9.00 µs more"),
        (9e-6, -5e-6, "which saves 5.00 µs of reformats: its kernels are 9.00 µs slower"),
        (0.0, 0.0, "which costs the same"),
        (-5e-6, 0.0, "although the first times had that 5.00 µs faster"),
    ],
)
def test_the_reason_is_said_in_words(kernels: float, reformats: float, words: str) -> None:
    other = AlternativeReport("conv", "acme:cpu/Convolution.fast#t", 1e-5, kernels, reformats)
    assert words in verdict(ChoiceReport("conv", "x:cpu/Convolution.y#default", 1e-5, (other,)))


def test_a_layer_without_rivals_says_so() -> None:
    assert "Nothing else" in verdict(ChoiceReport("conv", "x:cpu/Convolution.y#default", 1e-5))
