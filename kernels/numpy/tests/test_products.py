"""Convolution and FullyConnected through BLAS, against loops over every element in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenonrt.contracts import Attributes, Kernel, Problem, ProblemInput, ProblemLayer, TensorType, Weights, symbol
from tenonrt_kernel_numpy.convolution import ConvolutionKernel
from tenonrt_kernel_numpy.fully_connected import FullyConnectedKernel


class ConvolutionAttributes(Attributes, frozen=True):
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    pre_padding: tuple[int, ...] = ()
    post_padding: tuple[int, ...] = ()
    groups: int = 1
    padding_mode: str = "explicit"


class ActivationAttributes(Attributes, frozen=True):
    function: str = "relu"
    alpha: float | None = None
    beta: float | None = None


class ElementwiseAttributes(Attributes, frozen=True):
    operation: str = "sum"


RELU, SUM = ("Activation", ActivationAttributes()), ("Elementwise", ElementwiseAttributes())
CLIP = ("Activation", ActivationAttributes("clip", -0.5, 0.75))


@dataclass
class Example:
    """A convolution (or FullyConnected) with real values. Tensors: input, weights, bias, residual as far as present."""

    source: np.ndarray
    weights: np.ndarray
    bias: np.ndarray | None
    attrs: Any
    tail: list[Any] = field(default_factory=list)
    residual: np.ndarray | None = None
    kind: str = "Convolution"

    def oracle(self) -> np.ndarray:
        result = (convolve if self.kind == "Convolution" else connect)(self)
        for kind, attrs in self.tail:
            if kind == "Elementwise":
                result = result + self.residual
            else:
                low, high = (0, None) if attrs.function == "relu" else (attrs.alpha, attrs.beta)
                result = np.clip(result, low, high)
        return result

    def problem(self, shape: tuple[int, ...], batch: Any = None) -> Problem:
        arrays = [self.source, self.weights, self.bias, self.residual]
        present = [a for a in arrays if a is not None]
        numbers = [-1 if a is None else [id(p) for p in present].index(id(a)) for a in arrays]
        inputs = [ProblemInput("constant" if a is self.weights or a is self.bias else "activation") for a in present]
        result = len(present)
        layers = [ProblemLayer(self.kind, self.attrs, tuple(numbers[:3]), (result,))]
        for kind, attrs in self.tail:
            reads = (numbers[3], result) if kind == "Elementwise" else (result,)
            layers.append(ProblemLayer(kind, attrs, reads, (result + 1,)))
            result += 1
        types = [TensorType(a.shape, a.dtype.name) for a in present]
        types += [TensorType(shape, self.source.dtype.name)] * len(layers)
        if batch is not None:
            moving = [i for i, t in enumerate(types) if i >= len(inputs) or inputs[i].role == "activation"]
            types = [t.reshape((batch, *t.shape[1:])) if i in moving else t for i, t in enumerate(types)]
        return Problem(tuple(layers), tuple(inputs), tuple(types), (result,), "cpu")


def positions(size: int, window: int, axis: int, attrs: Any) -> tuple[int, int]:
    """Output size and zeros before, by the definitions of ONNX Conv."""
    stride, dilation = (attrs.stride or (1,) * 3)[axis], (attrs.dilation or (1,) * 3)[axis]
    span = (window - 1) * dilation + 1
    pre, post = ((p or (0,) * 3)[axis] for p in (attrs.pre_padding, attrs.post_padding))
    if attrs.padding_mode.startswith("same"):
        count = -(-size // stride)
        total = max((count - 1) * stride + span - size, 0)
        return count, (total // 2 if attrs.padding_mode == "same_upper" else total - total // 2)
    if attrs.padding_mode == "valid":
        pre = post = 0
    return (size + pre + post - span) // stride + 1, pre


def convolve(example: Example) -> np.ndarray:
    source, weights, attrs = example.source, example.weights, example.attrs
    axes = range(source.ndim - 2)
    found = [positions(source.shape[2 + a], weights.shape[2 + a], a, attrs) for a in axes]
    result = np.zeros((len(source), len(weights), *(count for count, _ in found)))
    depth, share = weights.shape[1], len(weights) // attrs.groups
    for n, k, *where in product(*map(range, result.shape)):
        total = 0.0 if example.bias is None else float(example.bias[k])
        for c, *tap in product(*map(range, weights.shape[1:])):
            at = [
                w * (attrs.stride or (1,) * 3)[a] + t * (attrs.dilation or (1,) * 3)[a] - found[a][1]
                for a, w, t in zip(axes, where, tap, strict=True)
            ]
            if all(0 <= i < size for i, size in zip(at, source.shape[2:], strict=True)):
                total += float(source[(n, k // share * depth + c, *at)]) * float(weights[(k, c, *tap)])
        result[(n, k, *where)] = total
    return result


def connect(example: Example) -> np.ndarray:
    result = np.einsum("...k,nk->...n", example.source.astype(float), example.weights.astype(float))
    return result if example.bias is None else result + example.bias


def check(kernel: Kernel, example: Example, batch: Any = None) -> set[str]:
    """Every tactic against the oracle, with workspace of exactly the declared size between guards; their keys."""
    expected = example.oracle()
    posed = example.problem(expected.shape, batch)
    support = kernel.supports(posed)
    assert support.ok, support.why
    values = {s.name: len(example.source) for s in posed.symbols}
    constants = tuple(a for a in (example.weights, example.bias) if a is not None)
    inputs = [a for a in (example.source, example.residual) if a is not None]
    kept = [a.copy() for a in inputs]
    for tactic in kernel.tactics(posed):
        nbytes = TensorType((tactic.workspace,)).concrete(values)[0]
        guarded = np.full(nbytes + 64, 255, np.uint8)
        result = np.full(expected.shape, np.nan, example.source.dtype)
        code = kernel.compile(posed, tactic)
        executable = kernel.bind(code, kernel.pack(code, Weights(constants)))
        for _ in range(2):
            executable.launch(inputs, [result], guarded[:nbytes], None)
        assert np.allclose(result, expected, rtol=1e-4, atol=1e-4), tactic.key
        assert (guarded[nbytes:] == 255).all()
        assert all(np.array_equal(a, b) for a, b in zip(inputs, kept, strict=True))
    return {tactic.key for tactic in kernel.tactics(posed)}


def normal(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@st.composite
def convolutions(draw: st.DrawFn) -> Example:
    rank = draw(st.integers(1, 3))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    window, dilation, pre, post = each(1, 3), each(1, 2), each(0, 2), each(0, 2)
    mode = draw(st.sampled_from(["explicit", "explicit", "same_upper", "same_lower", "valid"]))
    least = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
    sizes = tuple(span + draw(st.integers(0, 3)) for span in least)
    stride = draw(st.sampled_from([(), each(1, 3)]))
    groups, depth, share = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    attrs = ConvolutionAttributes(stride, dilation, pre, post, groups, mode)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    source = normal(1, draw(st.integers(0, 2)), groups * depth, *sizes, dtype=dtype)
    bias = normal(3, groups * share, dtype=dtype) if draw(st.booleans()) else None
    return Example(source, normal(2, groups * share, depth, *window, dtype=dtype), bias, attrs)


@settings(deadline=None, max_examples=60)
@given(convolutions())
def test_convolutions(example: Example) -> None:
    check(ConvolutionKernel(), example)


@pytest.mark.parametrize(
    ("source", "weights", "attrs", "keys"),
    [
        ((2, 6, 5, 4), (4, 6, 1, 1), {}, {"pointwise"}),
        ((1, 6, 5, 4), (4, 3, 1, 1), {"groups": 2}, {"pointwise"}),
        ((1, 6, 5, 4), (4, 6, 1, 1), {"padding_mode": "same_upper"}, {"pointwise"}),
        ((1, 6, 5, 4), (4, 6, 1, 1), {"stride": (2, 2)}, {"im2col"}),
        ((1, 6, 5, 4), (4, 6, 1, 1), {"pre_padding": (1, 1)}, {"im2col", "shifted"}),
        ((1, 6, 7, 6), (4, 6, 3, 3), {}, {"im2col", "shifted"}),
        ((1, 6, 7, 6), (12, 1, 3, 3), {"groups": 6, "stride": (2, 2)}, {"im2col", "depthwise"}),
    ],
)
def test_tactics_offered(source: Any, weights: Any, attrs: Any, keys: set[str]) -> None:
    example = Example(normal(1, *source), normal(2, *weights), None, ConvolutionAttributes(**attrs))
    assert check(ConvolutionKernel(), example) == keys


@pytest.mark.parametrize("tail", [[RELU], [CLIP], [SUM], [SUM, RELU], [RELU, SUM], [SUM, CLIP]])
@pytest.mark.parametrize("window", [(1, 1), (3, 3)])
def test_tails(tail: list[Any], window: tuple[int, int]) -> None:
    attrs = ConvolutionAttributes(pre_padding=tuple(w // 2 for w in window), post_padding=tuple(w // 2 for w in window))
    residual = normal(4, 2, 5, 6, 7) if SUM in tail else None
    example = Example(normal(1, 2, 3, 6, 7), normal(2, 5, 3, *window), normal(3, 5), attrs, tail, residual)
    check(ConvolutionKernel(), example)


def test_the_residual_may_be_the_input_itself() -> None:
    source = normal(1, 2, 3, 5, 5)
    weights = normal(2, 3, 3, 3, 3)
    attrs = ConvolutionAttributes(pre_padding=(1, 1), post_padding=(1, 1))
    posed = Example(source, weights, None, attrs).problem(source.shape)
    sum_layer = ProblemLayer("Elementwise", ElementwiseAttributes(), (2, 0), (3,))
    posed = Problem((*posed.layers, sum_layer), posed.inputs, (*posed.types, posed.types[0]), (3,), "cpu")
    kernel = ConvolutionKernel()
    expected = convolve(Example(source, weights, None, attrs)) + source
    for tactic in kernel.tactics(posed):
        code, result = kernel.compile(posed, tactic), np.empty_like(source)
        workspace = np.empty(TensorType((tactic.workspace,)).concrete({})[0], np.uint8)
        kernel.bind(code, kernel.pack(code, Weights((weights,)))).launch([source], [result], workspace, None)
        assert np.allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_not_a_number_survives_the_tail() -> None:
    source = normal(1, 1, 2, 3, 3)
    source[0, 0, 1, 1] = np.nan
    example = Example(source, normal(2, 2, 2, 1, 1), None, ConvolutionAttributes(), [RELU])
    posed, kernel = example.problem((1, 2, 3, 3)), ConvolutionKernel()
    code, result = kernel.compile(posed, kernel.tactics(posed)[0]), np.zeros((1, 2, 3, 3), np.float32)
    kernel.bind(code, kernel.pack(code, Weights((example.weights,)))).launch([source], [result], None, None)
    assert np.isnan(result[0, :, 1, 1]).all()
    assert np.isnan(result).sum() == 2


def test_the_batch_and_the_image_may_change_between_launches() -> None:
    batch, height = symbol("s0"), symbol("s1", 3)
    weights, kernel = normal(2, 4, 2, 3, 3), ConvolutionKernel()
    attrs = ConvolutionAttributes(stride=(1, 2), padding_mode="same_lower")
    posed = Example(normal(1, 1, 2, 9, 5), weights, None, attrs).problem((1, 4, 9, 3))
    types = (TensorType((batch, 2, height, 5)), posed.types[1], TensorType((batch, 4, height, 3)))
    posed = Problem(posed.layers, posed.inputs, types, posed.outputs, "cpu")
    assert kernel.supports(posed).runtime_symbols == "all"
    [tactic] = kernel.tactics(posed)
    code = kernel.compile(posed, tactic)
    executable = kernel.bind(code, kernel.pack(code, Weights((weights,))))
    for count, size in ((1, 9), (3, 4), (0, 4)):
        example = Example(normal(1, count, 2, size, 5), weights, None, attrs)
        expected = convolve(example)
        result = np.empty(expected.shape, np.float32)
        nbytes = TensorType((tactic.workspace,)).concrete({"s0": count, "s1": size})[0]
        executable.launch([example.source], [result], np.empty(nbytes, np.uint8), None)
        assert np.allclose(result, expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 5), st.integers(1, 4), st.booleans(), st.booleans())
def test_fully_connected(leading: list[int], depth: int, units: int, bias: bool, clip: bool) -> None:
    source, weights = normal(1, *leading, depth), normal(2, units, depth)
    tail = [SUM, CLIP] if clip else []
    residual = normal(4, *leading, units) if clip else None
    shift = normal(3, units) if bias else None
    example = Example(source, weights, shift, Attributes(), tail, residual, "FullyConnected")
    assert check(FullyConnectedKernel(), example) == {"rows", "columns"}


def test_fully_connected_takes_any_batch() -> None:
    example = Example(normal(1, 3, 4), normal(2, 5, 4), normal(3, 5), Attributes(), [RELU], kind="FullyConnected")
    check(FullyConnectedKernel(), example, symbol("s0"))


def refusals() -> list[tuple[Kernel, Problem, str]]:
    conv, full = ConvolutionKernel(), FullyConnectedKernel()
    attrs = ConvolutionAttributes()
    source, weights, bias = normal(1, 1, 2, 3, 3), normal(2, 2, 2, 1, 1), normal(3, 2)
    plain = Example(source, weights, bias, attrs)
    shape = (1, 2, 3, 3)
    half = Example(source.astype(np.float16), weights.astype(np.float16), None, attrs)
    gelu = Example(source, weights, None, attrs, [("Activation", ActivationAttributes("gelu"))])
    wide = Example(source, weights, None, attrs, [SUM], normal(4, 1, 2, 3, 1))
    moving = plain.problem(shape)
    moving = Problem(moving.layers, (ProblemInput("activation"),) * 3, moving.types, moving.outputs, "cpu")
    twice = Example(source, weights, None, attrs, [RELU]).problem(shape)
    wanted = Problem(twice.layers, twice.inputs, twice.types, (2, 3), "cpu")
    connected = Example(normal(1, 2, 3), normal(2, 4, 3), None, Attributes(), kind="FullyConnected")
    return [
        (conv, connected.problem((2, 4)), "begins with FullyConnected"),
        (full, plain.problem(shape), "begins with Convolution"),
        (conv, half.problem(shape), "has float16"),
        (conv, gelu.problem(shape), "gelu"),
        (conv, wide.problem(shape), "broadcasts"),
        (conv, moving, "weights constant"),
        (conv, wanted, "not a chain"),
    ]


@pytest.mark.parametrize(("kernel", "posed", "why"), refusals())
def test_refusals_say_why(kernel: Kernel, posed: Problem, why: str) -> None:
    support = kernel.supports(posed)
    assert not support.ok
    assert why in support.why


class Graph:
    """A read-only graph for `Kernel.regions`: layers in order, tensors found by identity."""

    def __init__(self, *outputs: Any) -> None:
        self.layers: list[Any] = []
        self.outputs = outputs

    def add(self, kind: str, inputs: list[Any], attrs: Any, shape: tuple[int, ...] = (1, 2, 3, 3)) -> Any:
        result = tensor(shape)
        self.layers.append(SimpleNamespace(kind=kind, inputs=inputs, outputs=[result], attrs=attrs))
        return result

    def consumers(self, wanted: Any) -> list[Any]:
        return [layer for layer in self.layers if any(t is wanted for t in layer.inputs)]

    def is_output(self, wanted: Any) -> bool:
        return any(t is wanted for t in self.outputs)


def tensor(shape: tuple[int, ...] = (1, 2, 3, 3), constant: bool = False) -> Any:
    return SimpleNamespace(type=TensorType(shape), constant=np.zeros(shape) if constant else None)


def regions(graph: Graph) -> list[str]:
    found = ConvolutionKernel().regions(graph, graph.layers[0])  # type: ignore[arg-type]
    return [" ".join(layer.kind for layer in region) for region in found]


def test_regions_grow_along_the_tail() -> None:
    graph = Graph()
    y = graph.add("Convolution", [tensor(), tensor(constant=True)], None)
    y = graph.add(*SUM[:1], [tensor(), y], SUM[1])
    y = graph.add(*RELU[:1], [y], RELU[1])
    graph.add(*CLIP[:1], [y], CLIP[1])
    assert regions(graph) == ["Convolution", "Convolution Elementwise", "Convolution Elementwise Activation"]


@pytest.mark.parametrize("other", ["two readers", "output", "broadcast", "constant", "itself", "gelu"])
def test_regions_end_where_the_tail_cannot_be_taken(other: str) -> None:
    graph = Graph()
    y = graph.add("Convolution", [tensor(), tensor(constant=True)], None)
    if other == "broadcast":
        graph.add("Elementwise", [y, tensor((1, 2, 1, 1))], SUM[1])
    elif other == "constant":
        graph.add("Elementwise", [y, tensor(constant=True)], SUM[1])
    elif other == "itself":
        graph.add("Elementwise", [y, y], SUM[1])
    else:
        graph.add("Activation", [y], ActivationAttributes("gelu" if other == "gelu" else "relu"))
    if other == "two readers":
        graph.add("Activation", [y], RELU[1])
    graph.outputs = (y,) if other == "output" else ()
    assert regions(graph) == ["Convolution"]
