"""LSTM and GRU layers, and stacks of them, as problems: their sizes, operands and what kernels here refuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

from tenonrt.contracts import GraphView, Layer, Problem, ProblemLayer, only_reader

GATES = {"LSTM": 4, "GRU": 3}
_FUNCTIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}
_OPERANDS = ("input", "weights", "recurrence", "bias", "lengths", "hidden", "cell", "peephole")
BETWEEN = frozenset({"Reshape", "Squeeze"})  # of one direction they leave the bytes as they are
_TURN = "Transpose"
MOST_LAYERS = 4  # of a stack: one has a cluster, and one between each two


@dataclass(frozen=True)
class Recurrence:
    """A layer's sizes. Operands are tensors of the problem, -1 where absent; every, last, memory are results.

    reversed: the directions that go backwards through time. sequences: of the batch.
    """

    kind: str
    steps: int
    sequences: int
    features: int
    hidden: int
    reversed: tuple[bool, ...]
    time_first: bool
    clip: float | None
    coupled: bool  # the forget gate is one minus the input gate
    operands: dict[str, int]
    every: int
    last: int
    memory: int
    turned: bool = False  # what is read has its batch first, whatever time_first says of the layer
    put_turned: bool = False  # what is put out has

    @property
    def directions(self) -> int:
        return len(self.reversed)

    @property
    def rows(self) -> int:
        """Of the product of all inputs."""
        return self.steps * self.sequences


@dataclass(frozen=True)
class Parts:
    """A stack of layers with what is between them, and the transposes of time and batch around it, where there are."""

    before: ProblemLayer | None
    chain: tuple[ProblemLayer, ...]
    after: tuple[ProblemLayer, ...]  # a reshape and a transpose, or none

    @classmethod
    def of(cls, problem: Problem) -> Self:
        before, chain = (problem.layers[0] if problem.layers[0].kind == _TURN else None), problem.layers
        chain = chain[before is not None :]
        after = chain[-2:] if len(chain) > 2 and chain[-1].kind == _TURN else ()
        return cls(before, chain[: len(chain) - len(after)], after)

    @property
    def cells(self) -> tuple[ProblemLayer, ...]:
        return self.chain[::2]


def recurrences(problem: Problem) -> tuple[Recurrence, ...]:
    """The layers of a stack; transposes around it are part of the first and the last."""
    parts = Parts.of(problem)
    found = [_recurrence(problem, layer) for layer in parts.cells]
    if parts.before is not None:
        operands = {**found[0].operands, "input": parts.before.inputs[0]}
        found = [replace(r, operands=operands if i == 0 else r.operands, turned=True) for i, r in enumerate(found)]
    if parts.after:
        found[-1] = replace(found[-1], every=parts.after[-1].outputs[0], put_turned=True)
    return tuple(found)


def _recurrence(problem: Problem, layer: ProblemLayer) -> Recurrence:
    """Only for kinds of `GATES`."""
    given = (*layer.inputs, *(-1,) * (8 - len(layer.inputs)))
    operands = dict(zip(_OPERANDS, given, strict=True))
    first, second, features = problem.types[layer.inputs[0]].concrete({})
    attrs, time_first = layer.attrs, layer.attrs.layout == 0
    steps, sequences = (first, second) if time_first else (second, first)
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[attrs.direction]
    every, last, *memory = (i if i in problem.outputs else -1 for i in layer.outputs)
    return Recurrence(
        layer.kind, steps, sequences, features, attrs.hidden_size, backwards, time_first, attrs.clip,
        layer.kind == "LSTM" and attrs.input_forget, operands, every, last, memory[0] if memory else -1,
    )  # fmt: skip


def stacks(view: GraphView, layer: Layer) -> Iterator[list[Layer]]:
    """A layer, then with each one that only reads what the one before puts out, with a reshape between them.

    Each with transposes of time and batch around it, too.
    """
    found = [layer]
    while True:
        yield found
        turned = _with_transposes(view, found)
        if len(turned) > len(found):
            yield turned
        between = _following(view, found[-1], BETWEEN)
        following = None if between is None else _following(view, between, frozenset({layer.kind}))
        if between is None or following is None or len(found) == 2 * MOST_LAYERS - 1:
            return
        found = [*found, between, following]


def _following(view: GraphView, layer: Layer, kinds: frozenset[str]) -> Layer | None:
    """The layer of one of these kinds that alone reads a layer's first result, as its first input."""
    reader = only_reader(view, layer.outputs[0])
    follows = reader is not None and reader.kind in kinds and reader.inputs[0] is layer.outputs[0]
    return reader if follows else None


def _with_transposes(view: GraphView, found: list[Layer]) -> list[Layer]:
    first, last = found[0], found[-1]
    before = None if first.inputs[0] is None else view.producer(first.inputs[0])
    if before is not None and (before.kind != _TURN or only_reader(view, before.outputs[0]) is not first):
        before = None
    between = _following(view, last, BETWEEN)
    after = None if between is None else _following(view, between, frozenset({_TURN}))
    return [*filter(None, [before]), *found, *([between, after] if between is not None and after is not None else [])]


def refuses(problem: Problem) -> str:
    """Why a problem of static tensors is none that is computed here; empty when it is one."""
    parts = Parts.of(problem)
    kinds = tuple(layer.kind for layer in parts.chain)
    if not kinds or kinds[0] not in GATES or set(kinds[::2]) != {kinds[0]} or not BETWEEN.issuperset(kinds[1::2]):
        return "it is no LSTM or GRU, and no stack of them"
    why = next(filter(None, (_refuses_layer(problem, layer) for layer in parts.cells)), "")
    return why or _refuses_links(problem, parts) or (_refuses_stack(problem) if len(kinds) > 1 else "")


def _refuses_links(problem: Problem, parts: Parts) -> str:
    """Layers that read something else than what the one before puts out, and transposes of other axes."""
    linked = all(b.inputs[0] == a.outputs[0] for a, b in pairwise(problem.layers))
    if not linked or any(i in problem.outputs for layer in problem.layers[:-1] for i in layer.outputs[:1]):
        return "what is between two layers is wanted, or is not all that the next one reads"
    turns = [layer for layer in (parts.before, *parts.after[1:]) if layer is not None]
    if any(tuple(axis % 3 for axis in turn.attrs.permutation) != (1, 0, 2) for turn in turns):
        return "a transpose of other axes than time and batch"
    attrs, shape = parts.cells[-1].attrs, problem.types[parts.cells[0].inputs[0]].concrete({})
    if turns and attrs.layout:
        return "a transpose of sequences whose batch comes first"
    if parts.after and problem.types[parts.after[0].outputs[0]].concrete({}) != (*shape[:2], attrs.hidden_size):
        return "a reshape to other axes than time, batch and units"
    return ""


def _refuses_layer(problem: Problem, layer: ProblemLayer) -> str:
    attrs, kind = layer.attrs, layer.kind
    functions = tuple(name.lower() for name in attrs.activations)
    if functions and functions != _FUNCTIONS[kind] * attrs.directions:
        return f"activations {', '.join(attrs.activations)}: only sigmoid and tanh are computed here"
    if kind == "GRU" and not attrs.linear_before_reset:
        return "a GRU that resets the state before it is multiplied (linear_before_reset is 0)"
    r = _recurrence(problem, layer)
    if r.operands["peephole"] >= 0:
        return "peepholes"
    return _refuses_operands(problem, r)


def _refuses_stack(problem: Problem) -> str:
    """Layers that are not alike."""
    first, *others = recurrences(problem)
    alike = all(_same_steps(first, one) and one.features == first.hidden for one in others)
    if not alike or first.reversed != (False,) or first.operands["lengths"] >= 0:
        return "a stack of layers that differ, go backwards, or have sequences of several lengths"
    return ""


def _same_steps(a: Recurrence, b: Recurrence) -> bool:
    return (a.steps, a.sequences, a.hidden, a.reversed, a.time_first, a.clip, a.coupled, b.operands["lengths"]) == (
        b.steps, b.sequences, b.hidden, b.reversed, b.time_first, b.clip, b.coupled, a.operands["lengths"]
    )  # fmt: skip


def _refuses_operands(problem: Problem, r: Recurrence) -> str:
    computed = r.operands["input"] in problem.activations or r.operands["input"] >= len(problem.inputs)
    if not computed or problem.types[r.operands["input"]].dtype != "float32":
        return "sequences that are no computed float32 tensor"
    for name in ("weights", "recurrence", "bias"):
        if r.operands[name] >= 0 and r.operands[name] not in problem.constants:
            return f"{name} that is computed"
    return "" if r.rows and r.hidden and r.features else "nothing to compute"
