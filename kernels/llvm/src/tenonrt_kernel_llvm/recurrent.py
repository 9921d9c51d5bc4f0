"""What LSTM and GRU share: the product of all inputs first, then a phase for each step of time.

Hidden units are taken in blocks of 16. The weights of a block lie behind each other, all gates of an element side by
side, so that a tile of sequences reads them once, as a stream. ONNX's order of gates is kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from tenonrt.contracts import Array, Code, Dimension, Problem, Support, Tactic, Weights

from tenonrt_kernel_llvm import operations
from tenonrt_kernel_llvm.contraction.microkernel import Steps, accumulate
from tenonrt_kernel_llvm.contraction.tiles import divide
from tenonrt_kernel_llvm.emitter import Function, Index, Value, vector
from tenonrt_kernel_llvm.kernel import LlvmKernel
from tenonrt_kernel_llvm.layouts import known
from tenonrt_kernel_llvm.panels import tiling
from tenonrt_kernel_llvm.routine import Routine
from tenonrt_kernel_llvm.target import BLOCK, Target

MAX_PHASES = 2000  # above, one thread walks through time alone
LINE = 4 * BLOCK  # bytes of a block
_UNROLLED = 4
# Sums that must be under way to hide the latency of multiply-adds: 4 cycles, two in a cycle.
_UNDER_WAY = 8

Function1 = Callable[[Function, Value], Value]


# activations of cells ------------------------------------------------------------------------------------------------

_PLAIN = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "softsign": "softsign", "softplus": "softplus"}
_ALPHA = {"leakyrelu": ("leaky_relu", 0.01), "thresholdedrelu": ("thresholded_relu", 1.0), "elu": ("elu", 1.0)}
_ALPHA_BETA = {"affine": ("affine", 1.0, 0.0), "scaledtanh": ("scaled_tanh", 1.0, 1.0)}
_ALPHA_BETA["hardsigmoid"] = ("hard_sigmoid", 0.2, 0.5)


def cell_functions(attrs: Any, defaults: Sequence[str]) -> list[list[Function1]]:
    """For each direction the cell's functions; alphas and betas go to those that take them, in order."""
    names = attrs.activations or tuple(defaults) * attrs.directions
    alphas, betas = iter(attrs.alphas), iter(attrs.betas)
    found: list[Function1] = []
    for name in (n.lower() for n in names):
        if name in _PLAIN:
            function, a, b = operations.ACTIVATIONS[_PLAIN[name]]
            found.append(partial(_apply, function, a, b))
        elif name in _ALPHA:
            known, alpha = _ALPHA[name]
            found.append(partial(_apply, operations.ACTIVATIONS[known][0], next(alphas, alpha), None))
        else:
            known, alpha, beta = _ALPHA_BETA[name]
            function = _affine if known == "affine" else operations.ACTIVATIONS[known][0]
            found.append(partial(_apply, function, next(alphas, alpha), next(betas, beta)))
    each = len(defaults)
    return [found[d * each : (d + 1) * each] for d in range(attrs.directions)]


def _apply(function: operations.Activation, alpha: float | None, beta: float | None, fn: Function, x: Value) -> Value:
    return function(fn, x, alpha, beta)


def _affine(fn: Function, x: Value, alpha: float, beta: float) -> Value:
    return fn.fma(x, fn.constant(x.type, alpha), fn.constant(x.type, beta))


# sizes ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Of one layer. blocks: of hidden units."""

    steps: Dimension
    batch: Dimension
    features: int
    hidden: int
    directions: int
    gates: int
    time_first: bool

    @property
    def blocks(self) -> int:
        return -(-self.hidden // BLOCK)

    @property
    def projected(self) -> Dimension:
        """Bytes of the inputs' products, [direction, row, block, gate, 16]."""
        return self.steps * self.batch * (self.directions * self.blocks * self.gates * LINE)

    @property
    def state(self) -> Dimension:
        """Bytes of a state, [direction, batch, block, 16]."""
        return self.batch * (self.directions * self.blocks * LINE)


class LlvmRecurrent(LlvmKernel):
    """A layer over time. phases: all threads share each step; serial: one thread does everything."""

    kind: ClassVar[str]
    gates: ClassVar[int]
    states: ClassVar[int]
    defaults: ClassVar[tuple[str, ...]]

    def supports(self, problem: Problem) -> Support:
        why = self._refusal(problem)
        return Support(not why, why)

    def _refusal(self, problem: Problem) -> str:
        layer = problem.layers[0]
        if problem.kinds != (self.kind,):
            return f"it is no single {self.kind}"
        inputs = [*layer.inputs, *(-1,) * 8]
        if {problem.types[i].dtype for i in layer.inputs if i >= 0} != {"float32"}:
            return "it computes in another type than float32, or its sequences have lengths of their own"
        if inputs[4] >= 0 or inputs[7] >= 0:
            return "its sequences have lengths of their own, or its gates look at the cell"
        if any(problem.inputs[i].role != "constant" for i in inputs[1:4] if i >= 0):
            return "its weights are computed"
        sequence = problem.types[inputs[0]].shape
        if not isinstance(sequence[2], int) or 0 in sequence:
            return "its features change at run time, or it is empty"
        return ""

    def sizes(self, problem: Problem) -> Sizes:
        attrs, sequence = problem.layer.attrs, problem.types[problem.layer.inputs[0]].shape
        steps, batch = sequence[:2] if attrs.layout == 0 else (sequence[1], sequence[0])
        features = sequence[2]
        assert isinstance(features, int)
        return Sizes(steps, batch, features, attrs.hidden_size, attrs.directions, self.gates, attrs.layout == 0)

    def tactics(self, problem: Problem) -> Sequence[Tactic]:
        sizes = self.sizes(problem)
        workspace = sizes.projected + sizes.state * self.kept(problem)
        return tuple(Tactic(key, workspace=workspace) for key in ("phases", "serial"))

    @abstractmethod
    def kept(self, problem: Problem) -> int:
        """States in the workspace; the first two are the hidden ones of even and of odd steps."""

    @abstractmethod
    def biases(self, problem: Problem, bias: Array) -> Array:
        """[direction, kind of bias, gate, hidden] from [direction, input's or recurrence's, gate, hidden]."""

    def pack(self, code: Code, weights: Weights) -> Sequence[Array]:
        """Weights of inputs and of states, [direction, block, K, gate, 16]; biases, given states."""
        problem = code.problem
        given = dict(zip(problem.constants, weights.constants, strict=True))
        inputs = problem.layer.inputs
        sizes = self.sizes(problem)
        streams = [_blocked(given[i], sizes).transpose(0, 2, 4, 1, 3) for i in inputs[1:3]]
        shape = (sizes.directions, 2, sizes.gates, sizes.hidden)
        has = len(inputs) > 3 and inputs[3] >= 0
        bias = given[inputs[3]].reshape(shape) if has else np.zeros(shape, np.float32)
        joined = self.biases(problem, bias).swapaxes(1, 3)  # [direction, hidden, gate, kind]
        rows = np.ascontiguousarray(joined.transpose(0, 2, 1, 3)).reshape(sizes.directions, -1, joined.shape[3])
        biases = _blocked(rows, sizes).transpose(0, 2, 4, 1, 3)  # [direction, block, kind, gate, 16]
        states = [given[i] for i in initial_states(problem, self.states) if i in given]
        return [np.ascontiguousarray(a, np.float32) for a in (*streams, biases, *states)]


def _blocked(weights: Array, sizes: Sizes) -> Array:
    """[direction, gates * hidden, K] as [direction, gate, block, 16, K], missing units zero."""
    directions, _, depth = weights.shape
    wide = np.zeros((directions, sizes.gates, sizes.blocks * BLOCK, depth), np.float32)
    wide[:, :, : sizes.hidden] = weights.reshape(directions, sizes.gates, sizes.hidden, depth)
    return wide.reshape(directions, sizes.gates, sizes.blocks, BLOCK, depth)


def initial_states(problem: Problem, states: int) -> list[int]:
    """The tensors of the initial states, -1 where there are none."""
    inputs = [*problem.layer.inputs, *(-1,) * 8]
    return inputs[5 : 5 + states]


class RecurrentWriter:
    """Writes the code of one layer; subclasses write the phases of a step."""

    phases_per_step: ClassVar[int] = 1

    def __init__(self, kernel: LlvmRecurrent, problem: Problem, tactic: Tactic, target: Target) -> None:
        self.problem, self.attrs, self.sizes = problem, problem.layer.attrs, kernel.sizes(problem)
        self.steps, self.batch = known(self.sizes.steps), known(self.sizes.batch)
        self.functions = cell_functions(self.attrs, kernel.defaults)
        initial = initial_states(problem, kernel.states)
        constant = [i for i in initial if i in problem.constants]
        self.routine = Routine(problem, tactic, target, 3 + len(constant))
        self.fn = self.routine.function
        self.input_weights, self.weights, self.biases, *states = self.routine.packed
        pointers = dict(zip(constant, states, strict=True))
        pointers |= {n: o.pointer for n, o in zip(problem.activations, self.routine.inputs, strict=True)}
        self.input = pointers[problem.layer.inputs[0]]
        self.initial = [pointers.get(i) for i in initial]
        written = dict(zip(problem.outputs, (o.pointer for o in self.routine.outputs), strict=True))
        self.outputs = [written.get(number) for number in problem.layer.outputs]
        self.serial = tactic.key == "serial" or self.steps * self.phases_per_step >= MAX_PHASES
        self.target, self.tile = target, tiling(target).rows
        self.units = self.sizes.directions * self.sizes.blocks

    def code(self) -> Code:
        """Inputs first, then the steps; as phases, or one after the other in a single unit."""
        turns = self.steps * self.phases_per_step
        if not self.serial:
            self.routine.repeat(1, self.units, lambda _, unit: self._project(unit))
            self.routine.repeat(turns, self.units, self._turn)
        else:
            self.routine.phase(1, lambda _: self._alone(turns))
        return self.routine.code(self.sizes.gates * self.tile * LINE)

    def _alone(self, turns: int) -> None:
        self._each(self.units, self._project)
        self._each(turns, lambda turn: self._each(self.units, lambda unit: self._turn(turn, unit)))

    def _each(self, stop: Index, body: Callable[[Value], None]) -> None:
        def one(i: Value, _: list[Value]) -> Sequence[Value]:
            body(i)
            return ()

        self.fn.loop(0, stop, one)

    # the inputs of all steps ------------------------------------------------------------------------------------------

    def _project(self, unit: Value) -> None:
        """All rows of the sequences times one block's input weights, and the block's initial states.

        Weights come from far away, so each tile of rows asks for its share of the next block's.
        """
        fn, lines = self.fn, self.sizes.features * self.sizes.gates
        runs, done, first = divide(self.steps * self.batch, self._project_rows()), 0, 0
        share = -(-lines // sum(count for count, _ in runs))
        weights = fn.offset(self.input_weights, unit * (lines * LINE))
        for count, width in runs:
            next_unit = fn.offset(weights, (lines + done * share) * LINE)

            def tile(number: Value, first: int = first, width: int = width, next_unit: Value = next_unit) -> None:
                row = number * width + first
                ahead = Ahead(fn.offset(next_unit, number * (share * LINE)), share)
                self._project_tile(unit, row, width, weights, ahead)

            self._each(count, tile)
            done, first = done + count, first + count * width
        self._each(self.batch, lambda b: self._begin_states(unit, b))

    def _project_rows(self) -> int:
        """Rows of a tile: as many as leave room for the sums of all gates, where that is enough of them."""
        together = (self.target.registers - 1) // self.target.registers_per_block // self.sizes.gates - 1
        return together if together > 2 else self.tile

    def _project_tile(self, unit: Value, row: Value, rows: int, weights: Value, ahead: Ahead) -> None:
        fn, features, stride = self.fn, self.sizes.features, self.sizes.gates * LINE
        source = fn.offset(self.input, row * (4 * features))
        direction, block = self.place(unit)
        into, bias = self._projected(direction, row, block), self.bias(unit, 0)
        for gates in self._together(range(self.sizes.gates), rows):
            starts = [fn.load(vector(BLOCK), bias, gate * LINE) for gate in gates] * rows
            sums = self._products(Rows(source, 4 * features, rows), weights, gates, features, starts, ahead)
            for place, value in enumerate(sums):
                i, gate = place // len(gates), gates[place % len(gates)]
                fn.store(value, into, i * self.sizes.blocks * stride + gate * LINE)

    def _begin_states(self, unit: Value, b: Value) -> None:
        direction, block = self.place(unit)
        for number, pointer in enumerate(self.initial):
            into = self.state(number + (number > 0), direction, b, block)
            if pointer is None:
                self.fn.store(self.fn.zero(vector(BLOCK)), into)
            else:
                at = self.fn.offset(pointer, self._last_offset(direction, b, block))
                self._get(at, block, partial(self.fn.store, pointer=into))

    # addresses -------------------------------------------------------------------------------------------------------

    def place(self, unit: Value) -> tuple[Index, Value]:
        """Direction and block of a unit."""
        blocks = self.sizes.blocks
        return (0, unit) if self.sizes.directions == 1 else (unit // blocks, unit % blocks)

    def bias(self, unit: Value, kind: int) -> Value:
        """The gates' biases of a block; of kind 0 for the inputs."""
        kinds, gates = self.bias_kinds, self.sizes.gates
        return self.fn.offset(self.biases, unit * (kinds * gates * LINE) + kind * gates * LINE)

    bias_kinds: ClassVar[int] = 1

    def _projected(self, direction: Index, row: Value, block: Value) -> Value:
        rows, blocks, gates = self.steps * self.batch, self.sizes.blocks, self.sizes.gates
        index = ((row + direction * rows) * blocks + block) * (gates * LINE)
        return self.fn.offset(self.routine.workspace, index)

    def state(self, number: Index, direction: Index, b: Index, block: Index) -> Value:
        """A block of a state in the workspace: 0 and 1 are the hidden states before even and odd steps."""
        fn, blocks = self.fn, self.sizes.blocks
        size, projected = known(self.sizes.state), known(self.sizes.projected)
        at: Index = direction * (self.batch * blocks * LINE) + b * (blocks * LINE)
        at = at + block * LINE if isinstance(at, Value) else block * LINE + at
        return fn.offset(fn.offset(self.routine.workspace, at + number * size), projected)

    def _last_offset(self, direction: Index, b: Value, block: Value) -> Index:
        """Bytes to a block of an initial or last state, [direction, batch, hidden] or [batch, direction, hidden]."""
        hidden, directions = 4 * self.sizes.hidden, self.sizes.directions
        if self.sizes.time_first:
            return b * hidden + direction * (self.batch * hidden) + block * LINE
        return b * (directions * hidden) + direction * hidden + block * LINE

    def _row(self, time: Value, b: Index) -> Value:
        return time * self.batch + b if self.sizes.time_first else time + b * self.steps

    # a step ----------------------------------------------------------------------------------------------------------

    def _turn(self, turn: Value, unit: Value) -> None:
        """One unit of a phase. Odd steps go backwards through a thread's blocks: the last are in cache."""
        fn, threads = self.fn, 1 if self.serial else max(1, self.problem.threads)
        step = turn // self.phases_per_step
        span = self.units // threads
        if span and self.units % threads == 0:
            inside = unit % span
            mirrored = unit - inside + (span - 1 - inside)
            unit = fn.select(fn.compare("eq", turn % 2, 0), unit, mirrored)
        if self.sizes.directions == 1:
            self._directed(0, turn, step, unit)
            return
        first = fn.compare("slt", unit, self.sizes.blocks)
        fn.when(first, lambda: self._directed(0, turn, step, unit), lambda: self._directed(1, turn, step, unit))

    def _directed(self, direction: int, turn: Value, step: Value, unit: Value) -> None:
        backward = direction == 1 or self.attrs.direction == "reverse"
        time = (self.steps - 1) - step if backward else step
        block = unit - direction * self.sizes.blocks
        self.step(Step(direction, turn, step, time, unit, block))

    @abstractmethod
    def step(self, at: Step) -> None:
        """One block of one phase of a step."""

    def rows(self, body: Callable[[Index, int], None]) -> None:
        """``body(sequence, sequences)`` for tiles of the batch."""
        whole = self.batch // self.tile * self.tile

        def tiles(b: Value, _: list[Value]) -> Sequence[Value]:
            body(b, self.tile)
            return ()

        self.fn.loop(0, whole, tiles, step=self.tile)
        if self.batch > whole:
            body(self.fn.constant("i64", whole), self.batch - whole)

    def before(self, at: Step, b: Index, block: Index = 0) -> Value:
        """The hidden state before a step."""
        return self.state(at.step % 2, at.direction, b, block)

    def projected(self, at: Step, b: Index) -> Value:
        """The inputs' part of the gates of a block."""
        return self._projected(at.direction, self._row(at.time, b), at.block)

    def gates_into_scratch(self, at: Step, source: Value, rows: int, gates: Sequence[int], starts: Any) -> None:
        """Sums of these gates for a few sequences, [gate, row, 16]; ``starts(gate, row)`` is what they begin with."""
        fn, hidden = self.fn, self.sizes.hidden
        weights = fn.offset(self.weights, at.unit * (hidden * self.sizes.gates * LINE))
        for some in self._together(gates, rows):
            begun = [starts(gate, i) for i in range(rows) for gate in some]
            sums = self._products(Rows(source, self.sizes.blocks * LINE, rows), weights, some, hidden, begun)
            for place, value in enumerate(sums):
                i, gate = place // len(some), some[place % len(some)]
                fn.store(value, self.routine.scratch, (gate * self.tile + i) * LINE)

    def _together(self, gates: Sequence[int], rows: int) -> list[Sequence[int]]:
        """Gates whose sums, and the weights that they take, fit into registers at once; equally many each time."""
        blocks = (self.target.registers - 1) // self.target.registers_per_block
        most = max(1, blocks // (rows + 1))
        each = -(-len(gates) // -(-len(gates) // most))
        return [gates[first : first + each] for first in range(0, len(gates), each)]

    def _products(
        self,
        left: Rows,
        weights: Value,
        gates: Sequence[int],
        depth: int,
        starts: Sequence[Value],
        ahead: Ahead | None = None,
    ) -> list[Value]:
        """``starts[row * gates + gate]`` and the products of ``depth`` elements of each row with weights of gates."""
        fn, stride, count = self.fn, self.sizes.gates * LINE, len(starts)
        registers = count * self.target.registers_per_block
        chains = next((n for n in (1, 2) if n * registers >= _UNDER_WAY), _UNROLLED)
        rows = [(i, i * left.stride) for i in range(left.count)]

        def turn(k: Index, sums: Sequence[Value], elements: int) -> list[Value]:
            kept = [list(sums[n * count : (n + 1) * count]) for n in range(chains)]
            a, b = fn.offset(left.pointer, k * 4), fn.offset(weights, k * stride)
            if ahead is not None:
                ahead.fetch(fn, k, elements, depth)
            for j in range(elements):
                here, there = fn.offset(a, 4 * j), fn.offset(b, j * stride + gates[0] * LINE)
                n = j % chains
                kept[n] = accumulate(fn, kept[n], len(gates), here, there, rows, Steps(1, 4, stride))
            return [value for chain in kept for value in chain]

        whole = depth // _UNROLLED * _UNROLLED
        sums = [*starts, *[fn.zero(vector(BLOCK))] * (count * (chains - 1))]
        sums = fn.loop(0, whole, lambda k, carried: turn(k, carried, _UNROLLED), sums, step=_UNROLLED)
        sums = turn(whole, sums, depth - whole)
        return [sum(sums[i + count :: count], start=sums[i]) for i in range(count)]

    def gate(self, gate: int, row: Value) -> Value:
        """A gate's sums from the scratch."""
        at = self.fn.offset(self.routine.scratch, row * LINE)
        return self.fn.load(vector(BLOCK), at, gate * self.tile * LINE)

    def activate(self, at: Step, index: int, x: Value, clip: bool = True) -> Value:
        """The cell's function ``index``, of a clipped input unless told otherwise."""
        bound = self.attrs.clip
        if bound is not None and clip:
            x = operations.ACTIVATIONS["clip"][0](self.fn, x, -bound, bound)
        return self.functions[at.direction][index](self.fn, x)

    def finish(self, at: Step, b: Value, hidden: Value, others: Sequence[Value] = ()) -> None:
        """Keep the hidden state, put it out, and the last states after the last step."""
        fn, sizes = self.fn, self.sizes
        fn.store(hidden, self.state((at.step + 1) % 2, at.direction, b, at.block))
        every, *lasts = self.outputs
        if every is not None:
            size = 4 * sizes.hidden
            if sizes.time_first:
                row = (at.time * sizes.directions + at.direction) * self.batch + b
            else:
                row = (b * self.steps + at.time) * sizes.directions + at.direction
            self._put(hidden, fn.offset(every, row * size + at.block * LINE), at.block)
        if any(last is not None for last in lasts):
            fn.when(fn.compare("eq", at.step, self.steps - 1), lambda: self._put_last(at, b, (hidden, *others)))

    def _put_last(self, at: Step, b: Value, states: Sequence[Value]) -> None:
        for pointer, value in zip(self.outputs[1:], states, strict=True):
            if pointer is not None:
                place = self.fn.offset(pointer, self._last_offset(at.direction, b, at.block))
                self._put(value, place, at.block)

    def _by_block(self, block: Value, body: Callable[[int], None]) -> None:
        """``body(units)``: 16 of them, or what the last block has."""
        rest, blocks = self.sizes.hidden % BLOCK, self.sizes.blocks
        if not rest or blocks == 1:
            body(rest or BLOCK)
            return
        last = self.fn.compare("eq", block, blocks - 1)
        self.fn.when(last, lambda: body(rest), lambda: body(BLOCK))

    def _put(self, value: Value, pointer: Value, block: Value) -> None:
        self._by_block(block, lambda count: self.fn.store_lanes(value, pointer, count))

    def _get(self, pointer: Value, block: Value, use: Callable[[Value], None]) -> None:
        self._by_block(block, lambda count: use(self.fn.load_lanes(vector(BLOCK), pointer, count)))


@dataclass(frozen=True)
class Ahead:
    """``lines`` of cache that will be wanted soon."""

    pointer: Value
    lines: int

    def fetch(self, fn: Function, k: Index, elements: int, depth: int) -> None:
        """Ask for the share of these ``elements`` of ``depth``, from number ``k`` on."""
        each = -(-self.lines // depth)
        at = fn.offset(self.pointer, k * (each * LINE))
        for line in range(elements * each):
            fn.prefetch(at, line * LINE)


@dataclass(frozen=True)
class Rows:
    """``count`` rows of elements behind each other, ``stride`` bytes apart."""

    pointer: Value
    stride: int
    count: int


@dataclass(frozen=True)
class Step:
    """Where a unit is. unit counts the blocks of both directions, block those of its own."""

    direction: int
    turn: Value
    step: Value
    time: Value
    unit: Value
    block: Value
