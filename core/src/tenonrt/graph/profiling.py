"""Optimization profiles: from shapes of inputs to ranges of symbols and the sizes to tune for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenonrt.dims import Dimension, Symbol, symbol, symbols
from tenonrt.errors import BuildError
from tenonrt.graph.graph import Graph
from tenonrt.graph.shaping import shape_sizes
from tenonrt.plan.program import Profile

# By input: the least shape, those to tune for, the greatest.
Shapes = Mapping[str, Sequence[Sequence[int]]]


def solve_profiles(graph: Graph, profiles: Sequence[Shapes]) -> tuple[Profile, ...]:
    """The profiles in terms of the symbols of a graph's inputs; `BuildError` names the profile and what is wrong."""
    found = {s.name: s for tensor in graph.inputs for d in tensor.type.shape for s in symbols(d)}
    solved = []
    for number, shapes in enumerate(profiles, 1):
        try:
            solved.append(_solve(graph, found, shapes))
        except BuildError as error:
            raise BuildError(f"profile {number}: {error}") from error
    return tuple(solved)


def _solve(graph: Graph, found: Mapping[str, Symbol], shapes: Shapes) -> Profile:
    count = max((len(given) for given in shapes.values()), default=3)
    rows = [
        shape_sizes(graph, {name: _at(given, position, count) for name, given in shapes.items()})
        for position in range(count)
    ]
    for name, found_symbol in found.items():
        if name not in rows[0]:
            for row, size in zip(rows, _whole_range(graph, found_symbol, count), strict=True):
                row[name] = size
    least, *tuned, most = rows
    for row in rows:
        for name, size in row.items():
            if not least[name] <= size <= most[name]:
                raise BuildError(f"{name} is {size}, outside of its own range, {least[name]} to {most[name]}")
    ranges = {name: (least[name], most[name]) for name in found}
    distinct = {tuple(row[name] for name in found): row for row in tuned}
    return Profile(ranges, tuple({name: row[name] for name in found} for row in distinct.values()))


def _at(given: Sequence[Sequence[int]], position: int, count: int) -> Sequence[int]:
    """A shape that is tuned for once goes with every shape of the other inputs."""
    if len(given) not in (3, count):
        raise BuildError(
            f"one input has {len(given) - 2} shapes to tune for, another {count - 2}; give as many, or one"
        )
    if len(given) == count:
        return given[position]
    return given[0 if position == 0 else 2 if position == count - 1 else 1]


def _whole_range(graph: Graph, found: Symbol, count: int) -> list[int]:
    """What is not said of a symbol: all of its range, tuned for the largest."""
    if found.upper is None:
        names = [t.name for t in graph.inputs if found.name in t.type.symbol_names()]
        raise BuildError(
            f"{found.name} has no upper bound, and no shape tells it: give the least, the typical and the greatest "
            f"shape of {' or '.join(map(repr, names))} too"
        )
    return [found.lower, *[found.upper] * (count - 1)]


def of_symbols(profiles: Sequence[Profile], graph: Graph) -> tuple[Profile, ...]:
    """The profiles without the symbols that have one size in all of them, which the graph's inputs no longer show."""
    shown = {name for tensor in graph.inputs for name in tensor.type.symbol_names()}

    def trimmed(sizes: dict[str, Any]) -> dict[str, Any]:
        return {name: size for name, size in sizes.items() if name in shown}

    return tuple(Profile(trimmed(p.ranges), tuple(map(trimmed, p.tuned))) for p in profiles) if shown else ()


def around(profiles: Sequence[Profile]) -> dict[str, Dimension]:
    """Symbols that take the sizes of every profile, tuned for the first of the first."""
    typical = profiles[0].tuned[0]
    return {
        name: symbol(
            name, min(p.ranges[name][0] for p in profiles), max(p.ranges[name][1] for p in profiles), typical[name]
        )
        for name in typical
    }


def tuned_sizes(profiles: Sequence[Profile]) -> list[dict[str, int]]:
    """Every set of sizes that some profile is tuned for, once."""
    found = {tuple(sizes.items()): sizes for profile in profiles for sizes in profile.tuned}
    return list(found.values())
