"""Attention as graphs write it: which layers belong to it, and how its operands lie in the tensors that it reads.

queries and keys, moved and scaled -> product -> scale, mask -> softmax -> product with the values, moved,
and maybe quantized.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenonrt.contracts import MOVES, GraphView, Layer, Problem, ProblemLayer, Tensor, attention_layers, only_reader

_SCALES = frozenset({"prod", "div"})


# regions ------------------------------------------------------------------------------------------------------------


def regions(view: GraphView, first: Layer) -> Iterator[Sequence[Layer]]:
    """From the product of queries and keys to that with the values; then with the layers that move data around it."""
    found = attention_layers(view, first, frozenset({"Elementwise"}))
    if found is not None:
        yield found.core
        whole = (*found.before, *found.core, *found.after)
        yield whole
        quantized = _quantized(view, whole[-1].outputs[0])
        if quantized:
            yield (*whole, *quantized)


def _quantized(view: GraphView, tensor: Tensor) -> list[Layer]:
    """What quantizes a tensor, and the layers that move the result."""
    found, kinds = list[Layer](), frozenset({"Quantize"})
    while (layer := only_reader(view, tensor)) is not None and layer.kind in kinds and layer.inputs[0] is tensor:
        found.append(layer)
        tensor, kinds = layer.outputs[0], MOVES
    return found


# problems -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operand:
    """A tensor as [batch, heads, rows, columns]: where it is read from, and elements from one to the next."""

    number: int
    strides: tuple[int, int, int, int]


@dataclass(frozen=True)
class Attention:
    """softmax(factor * queries @ keys^T + mask) @ values; guarded: rows that are NaN become zeros.

    quantize: the layer that quantizes the result, None: it is real.
    """

    batch: int
    heads: int
    rows: int
    keys: int
    depth: int
    query: Operand
    key: Operand
    value: Operand
    result: tuple[int, int, int, int]
    factor: float
    mask: Operand | None
    guarded: bool
    quantize: ProblemLayer | None = None


class _OtherwiseError(Exception):
    """The problem is no attention that is known here."""


def read_attention(problem: Problem) -> Attention | str:
    """The attention of a problem, or why it is none."""
    try:
        return _Reading(problem).attention()
    except _OtherwiseError as why:
        return str(why)


def _need(found: object, why: str) -> None:
    if not found:
        raise _OtherwiseError(why)


# A logical axis: the axes in memory that it goes through, from the outermost, as (elements, distance).
_Axis = tuple[tuple[int, int], ...]
_Lies = tuple[_Axis, ...]


def _dense(shape: Sequence[int]) -> _Lies:
    """Row by row."""
    axes: list[_Axis] = []
    step = 1
    for size in reversed(shape):
        axes.append(((size, step),))
        step *= size
    return tuple(reversed(axes))


def _regrouped(lies: _Lies, shape: Sequence[int]) -> _Lies:
    """The same elements in axes of other sizes, without moving them."""
    parts = [part for axis in lies for part in axis if part[0] != 1]
    found: list[_Axis] = []
    for size in shape:
        taken: list[tuple[int, int]] = []
        wanted = size
        while wanted > 1:
            _need(parts, "an operand has fewer elements than its axes")
            count, distance = parts.pop(0)
            if count > wanted:  # the outer elements belong to this axis, the inner ones to the next
                _need(count % wanted == 0, "axes are taken apart at other places")
                parts.insert(0, (count // wanted, distance))
                count, distance = wanted, distance * (count // wanted)
            _need(wanted % count == 0, "axes are merged at other places")
            taken.append((count, distance))
            wanted //= count
        found.append(tuple(taken))
    _need(not parts, "an operand has more elements than its axes")
    return tuple(found)


def _even(axis: _Axis) -> tuple[int, int]:
    """An axis as (elements, distance), where one distance is enough."""
    size, distance = 1, 0
    for count, step in reversed(axis):
        if count == 1:
            continue
        _need(size == 1 or step == size * distance, "axes are merged that do not follow each other in memory")
        distance = distance if size > 1 else step
        size *= count
    return size, distance


class _Reading:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.producers = {layer.outputs[0]: layer for layer in problem.layers}
        self.used: set[int] = set()  # outputs of layers whose part is known
        self.factor = 1.0
        self.quantize: ProblemLayer | None = None

    def attention(self) -> Attention:
        problem = self.problem
        products = [layer for layer in problem.layers if layer.kind == "MatrixMultiply"]
        softmaxes = [layer for layer in problem.layers if layer.kind == "Softmax"]
        _need(len(products) == 2 and len(softmaxes) == 1 and len(problem.outputs) == 1, "it is no attention")
        (first, second), (softmax,) = products, softmaxes
        self._take(first, second, softmax)
        shape = self._shape(first.outputs[0])
        _need(2 < len(shape) <= 4, "its scores have another rank than 3 or 4")
        _need(not softmax.attrs.log and softmax.attrs.axis in (-1, len(shape) - 1), "its softmax is along another axis")
        guarded = self._guard(softmax.outputs[0], second)
        mask = self._middle(first.outputs[0], softmax.inputs[0])
        batch = shape[:-2]
        query = self._operand(first.inputs[0], first.attrs.transpose_a, batch)
        key = self._operand(first.inputs[1], not first.attrs.transpose_b, batch)
        scaled = self.factor
        value = self._operand(second.inputs[1], second.attrs.transpose_b, batch)
        _need(scaled == self.factor and not second.attrs.transpose_a, "its values are scaled")
        result = self._result(second.outputs[0])
        _need({layer.outputs[0] for layer in problem.layers} <= self.used, "a layer of it has no part in attention")
        heads, count = (batch[-1], batch[0]) if len(batch) == 2 else (batch[0], 1)
        depth = _even(query[1][-1])[0]
        _need(_even(value[1][-1])[0] == depth, "its values are wider than its queries")
        return Attention(
            count, heads, shape[-2], shape[-1], depth, _four(*query), _four(*key), _four(*value),
            _four(0, result).strides, self.factor, mask, guarded, self.quantize,
        )  # fmt: skip

    def _take(self, *layers: ProblemLayer) -> None:
        self.used.update(layer.outputs[0] for layer in layers)

    def _shape(self, number: int) -> tuple[int, ...]:
        return self.problem.types[number].concrete({})

    def _number(self, tensor: int) -> float | None:
        """The value of a constant of one element."""
        if not 0 <= tensor < len(self.problem.inputs):
            return None
        given = self.problem.inputs[tensor].value
        return float(given[0]) if given is not None and len(given) == 1 else None

    def _guard(self, softmax: int, second: ProblemLayer) -> bool:
        if second.inputs[0] == softmax:
            return False
        select = self.producers.get(second.inputs[0])
        _need(
            select is not None and select.kind == "Select" and select.inputs[2] == softmax,
            "something follows its softmax",
        )
        assert select is not None
        asked = self.producers.get(select.inputs[0])
        nan = asked is not None and asked.kind == "Unary" and asked.attrs.operation == "is_nan"
        _need(nan and self._number(select.inputs[1]) == 0, "its probabilities are replaced by something else")
        assert asked is not None
        _need(asked.inputs[0] == softmax, "it asks something else whether it is NaN")
        self._take(select, asked)
        return True

    def _middle(self, scores: int, changed: int) -> Operand | None:
        """From the softmax back to the scores: factors and one mask."""
        mask, current, factor = None, changed, 1.0
        while current != scores:
            layer = self.producers.get(current)
            _need(layer is not None and layer.kind == "Elementwise", "its scores are changed by something else")
            assert layer is not None
            self._take(layer)
            a, b = layer.inputs
            if layer.attrs.operation == "sum" and mask is None:
                inner, other = (a, b) if self._comes_from(a, scores) else (b, a)
                mask = self._mask(other, self._shape(scores))
                _need(factor == 1.0, "its mask is scaled")
            else:
                inner, amount = self._scaled(layer)
                factor *= amount
            current = inner
        self.factor *= factor
        return mask

    def _comes_from(self, tensor: int, scores: int) -> bool:
        while tensor != scores:
            layer = self.producers.get(tensor)
            if layer is None or layer.kind != "Elementwise":
                return False
            tensor = next((i for i in layer.inputs if i in self.producers), -1)
        return True

    def _mask(self, number: int, scores: tuple[int, ...]) -> Operand:
        _need(number in self.problem.activations, "its mask is computed inside, or constant")
        type = self.problem.types[number]
        _need(type.dtype == "float32" and type.rank <= len(scores), "its mask has another type or more axes")
        shape = self._shape(number)
        spread = (1,) * (len(scores) - len(shape)) + shape
        _need(
            all(m in (1, n) for m, n in zip(spread, scores, strict=True)), "its mask does not broadcast to its scores"
        )
        return _four(number, _dense(spread))

    def _scaled(self, layer: ProblemLayer) -> tuple[int, float]:
        """What a layer scales by one number, and the number."""
        a, b = layer.inputs
        if layer.attrs.operation == "prod" and self._number(a) is not None:
            a, b = b, a
        number = self._number(b)
        _need(number and layer.attrs.operation in _SCALES, f"an operand is changed by {layer.attrs.operation}")
        assert number
        return a, number if layer.attrs.operation == "prod" else 1 / number

    def _operand(self, number: int, swap: bool, batch: Sequence[int]) -> tuple[int, _Lies]:
        source, lies = self._trace(number)
        lies = (*lies[:-2], lies[-1], lies[-2]) if swap else lies
        _need(self._shape(number)[:-2] == tuple(batch), "its operands have other batches than its scores")
        _need(
            source in self.problem.activations and self.problem.types[source].dtype == "float32",
            "an operand is constant",
        )
        return source, lies

    def _trace(self, number: int) -> tuple[int, _Lies]:
        layer = self.producers.get(number)
        if layer is None:
            return number, _dense(self._shape(number))
        self._take(layer)
        if layer.kind == "Elementwise":
            inner, amount = self._scaled(layer)
            self.factor *= amount
            return self._trace(inner)
        _need(layer.kind in MOVES, f"{layer.kind} comes before it")
        source, lies = self._trace(layer.inputs[0])
        if layer.kind == "Transpose":
            order = layer.attrs.permutation or range(len(lies))[::-1]
            return source, tuple(lies[axis] for axis in order)
        return source, _regrouped(lies, self._shape(layer.outputs[0]))

    def _result(self, product: int) -> _Lies:
        """How the product lies in the output, from there back through the layers that move it."""
        current = self.problem.outputs[0]
        lies = _dense(self._shape(current))
        while current != product:
            layer = self.producers.get(current)
            once = layer is not None and layer.kind == "Quantize" and self.quantize is None
            _need(layer is not None and (once or layer.kind in MOVES), "its result is changed")
            assert layer is not None
            self._take(layer)
            if once:
                self.quantize = layer
            elif layer.kind == "Transpose":
                order = list(layer.attrs.permutation or range(len(lies))[::-1])
                lies = tuple(lies[order.index(axis)] for axis in range(len(order)))
            else:
                lies = _regrouped(lies, self._shape(layer.inputs[0]))
            current = layer.inputs[0]
        return lies


def _four(number: int, lies: _Lies) -> Operand:
    strides = tuple(_even(axis)[1] for axis in lies)
    padded = (0,) * (4 - len(strides)) + strides
    return Operand(number, (padded[0], padded[1], padded[2], padded[3]))
