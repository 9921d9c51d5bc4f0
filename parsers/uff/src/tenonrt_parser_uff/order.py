"""The order of nodes: those that the outputs need, each after those it reads, whatever the order in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tenonrt.contracts import GraphError, ParseError, UnsupportedError


def ordered(outputs: Iterable[str], reads: Callable[[str], Sequence[str]]) -> list[str]:
    """Names of nodes, depth first from the outputs; ``reads`` gives those that one needs, or raises `ParseError`."""
    done: dict[str, None] = {}
    open_: dict[str, None] = {}
    for output in outputs:
        stack = [] if output in done else [(output, iter(reads(output)))]
        open_ = dict.fromkeys(name for name, _ in stack)
        while stack:
            name, rest = stack[-1]
            needed = next((n for n in rest if n not in done), None)
            if needed is None:
                stack.pop()
                del open_[name]
                done[name] = None
            elif needed in open_:
                path = list(open_)
                raise ParseError(f"the graph has a cycle: {_shown([*path[path.index(needed) :], needed])}")
            else:
                stack.append((needed, iter(reads(needed))))
                open_[needed] = None
    return list(done)


def _shown(cycle: list[str]) -> str:
    kept = cycle if len(cycle) <= 10 else [*cycle[:9], "...", cycle[-1]]
    return " reads ".join(map(repr, kept))


def located(where: str, error: ParseError | GraphError) -> ParseError:
    """The same error, saying where."""
    if isinstance(error, UnsupportedError):
        return UnsupportedError(f"{where}: {error}", error.operators)
    return ParseError(f"{where}: {error}")


class Lacking:
    """Operations that nothing maps, collected so that one error tells all of them."""

    def __init__(self, format: str) -> None:
        self._format = format
        self._nodes: dict[str, list[str]] = {}
        self._reasons: dict[str, str] = {}

    def add(self, operation: str, node: str, reason: str | None = None) -> None:
        self._nodes.setdefault(operation, []).append(node)
        if reason is not None:
            self._reasons[operation] = reason

    def check(self, remedy: str) -> None:
        """`UnsupportedError` when there are any."""
        if not self._nodes:
            return
        lines = [f"no installed plugin provides {len(self._nodes)} of the model's operations:"]
        for operation, nodes in sorted(self._nodes.items()):
            more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
            lines.append(f"  {operation}: node {', '.join(map(repr, nodes[:5]))}{more}")
            if operation in self._reasons:
                lines.append(f"    {self._reasons[operation]}")
        raise UnsupportedError("\n".join([*lines, remedy]), [f"{self._format}:{name}" for name in sorted(self._nodes)])
