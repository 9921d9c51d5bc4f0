"""Random graphs of native layers. A step is four numbers that fit every graph, so that failures shrink well.

Sizes, weights and settings come from short lists: equal problems recur, and are tuned once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tenonrt import Network
from tenonrt.contracts import Dimension
from tenonrt.dims import bounds

Array = np.ndarray[Any, Any]
Numbers = tuple[int, int, int, int]  # which step, two operands, a variant
# One block of channels, several with a ragged end, fewer than a block; a plane with ragged tiles.
CHANNELS, PLANE, WORDS, WIDTH = (16, 20, 3), 7, 5, 24
FUNCTIONS = ("relu", "sigmoid", "tanh", "gelu")
Step = Callable[["RandomGraph", Any, Any, int], Any]
STEPS: list[Step] = []


def step(take: Step) -> Step:
    STEPS.append(take)
    return take


def weights(*shape: int) -> Array:
    """The same for a shape, wherever it is wanted; of a size that keeps the size of what they are multiplied with."""
    rng = np.random.default_rng(zlib.crc32(str(shape).encode()))
    return (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


@dataclass
class RandomGraph:
    """One graph in a network; several may read the same inputs."""

    network: Network
    tensors: list[Any]
    made: list[Any] = field(default_factory=list)

    def take(self, numbers: Numbers) -> None:
        """Add what a step adds, to operands that it fits; nothing where none do."""
        which, a, b, variant = numbers
        x, y = (self.tensors[i % len(self.tensors)] for i in (a, b))
        try:
            result = STEPS[which % len(STEPS)](self, x, y, variant)
        except SizeNotKnownError:
            return
        if result is not None:
            self.tensors.append(result)
            self.made.append(result)

    def outputs(self) -> Iterator[Any]:
        """What nothing reads, and every third result."""
        for number, tensor in enumerate(self.made):
            if not tensor.readers or number % 3 == 2:
                yield tensor


class SizeNotKnownError(Exception):
    """A step needs a size that is a symbol."""


def image(x: Any) -> bool:
    """Whether windows of three fit: known of sizes that are symbols too."""
    return x.type.rank == 4 and all((bounds(d)[0] or 0) >= 3 for d in x.type.shape[2:])


def same(x: Any, y: Any) -> bool:
    return list(x.type.shape) == list(y.type.shape)


def size(x: Any, axis: int) -> int:
    found: Dimension = x.type.shape[axis]
    if not isinstance(found, int):
        raise SizeNotKnownError
    return found


@step
def activation(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    return g.network.add("Activation", [x], {"function": FUNCTIONS[variant % len(FUNCTIONS)]})[0]


@step
def elementwise(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if not same(x, y):
        return None
    return g.network.add("Elementwise", [x, y], {"operation": ("sum", "prod", "max", "sub")[variant % 4]})[0]


@step
def with_constant(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """A scalar, or a value for each channel or column."""
    shape = [() if x.type.rank != 4 else (size(x, 1), 1, 1), (size(x, -1),), ()][variant % 3]
    return g.network.add("Elementwise", [x, weights(1, *shape)[0]], {"operation": ("sum", "prod")[variant % 2]})[0]


@step
def convolution(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if not image(x):
        return None
    channels = size(x, 1)
    window, stride = (1, 3)[variant % 2], (1, 2)[variant // 2 % 2]
    grouped = variant // 4 % 3 == 2
    outputs, groups = (channels, channels) if grouped else (CHANNELS[variant // 4 % 2], 1)
    kernel = weights(outputs, channels // groups, window, window)
    attrs = {"stride": (stride,) * 2, "pre_padding": (window // 2,) * 2, "post_padding": (window // 2,) * 2,
             "groups": groups}  # fmt: skip
    return g.network.add("Convolution", [x, kernel, weights(1, outputs)[0]], attrs)[0]


@step
def residual(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """relu(convolution(x) + x): the region that most networks are made of."""
    if not image(x):
        return None
    channels = size(x, 1)
    attrs = {"pre_padding": (1, 1), "post_padding": (1, 1)}
    (product,) = g.network.add("Convolution", [x, weights(channels, channels, 3, 3)], attrs)
    (total,) = g.network.add("Elementwise", [product, x], {"operation": "sum"})
    return g.network.add("Activation", [total], {"function": "relu"})[0]


@step
def pooling(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if not image(x):
        return None
    attrs = {
        "function": ("max", "average")[variant % 2],
        "window": (3, 3),
        "stride": ((1, 1), (2, 2))[variant // 2 % 2],
    }
    return g.network.add("Pooling", [x], attrs)[0]


@step
def concatenation(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    axis = 1 if x.type.rank == 4 else x.type.rank - 1
    fits = x.type.rank == y.type.rank and all(
        i == axis or x.type.shape[i] == y.type.shape[i] for i in range(x.type.rank)
    )
    if not fits or size(x, axis) + size(y, axis) > 48:
        return None
    return g.network.add("Concatenation", [x, y], {"axis": axis})[0]


@step
def split(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    axis = 1 if x.type.rank == 4 else x.type.rank - 1
    if size(x, axis) % 2 or size(x, axis) < 4:
        return None
    return g.network.add("Split", [x], {"axis": axis, "parts": 2})[variant % 2]


@step
def transposition(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """The last two axes exchanged, or images of channels and words of vectors made the other."""
    order = [*range(x.type.rank - 2), x.type.rank - 1, x.type.rank - 2]
    return g.network.add("Transpose", [x], {"permutation": order})[0]


@step
def words_of_an_image(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if x.type.rank != 4:
        return None
    (flat,) = g.network.add("Reshape", [x, np.array([0, size(x, 1), -1])], {})
    return g.network.add("Transpose", [flat], {"permutation": (0, 2, 1)})[0]


@step
def product(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """With weights, or of one half of a sentence with the other, as attention has it."""
    if x.type.rank != 3:
        return None
    if variant % 3:
        matrix = weights(size(x, -1), (WIDTH, 16)[variant % 2])
        return g.network.add("MatrixMultiply", [x, matrix], {})[0]
    return g.network.add("MatrixMultiply", [x, x], {"transpose_b": True})[0]


@step
def softmax(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    return g.network.add("Softmax", [x], {"axis": (-1, 1)[variant % 2]})[0]


@step
def normalization(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """Epsilon is large: what is nearly constant would be divided by nearly nothing, and noise would be compared."""
    width = size(x, -1)
    if x.type.rank == 4:
        scale = weights(1, size(x, 1))[0]
        return g.network.add("InstanceNormalization", [x, scale, scale], {"epsilon": 0.1})[0]
    kind = ("LayerNormalization", "RmsNormalization")[variant % 2]
    return g.network.add(kind, [x, weights(1, width)[0]], {"axis": -1, "epsilon": 0.1})[0]


@step
def reduction(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    axes = ((2, 3), (3,), (1,))[variant % 3] if x.type.rank == 4 else ((-1,), (1,), (1, 2))[variant % 3]
    attrs = {"operation": ("mean", "max", "sum")[variant // 3 % 3], "axes": axes, "keep_dims": True}
    return g.network.add("Reduce", [x], attrs)[0]


@step
def gate(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """Squeeze and excite: every plane times a sigmoid of its mean."""
    if not image(x):
        return None
    (mean,) = g.network.add("Reduce", [x], {"operation": "mean", "axes": (2, 3), "keep_dims": True})
    (scaled,) = g.network.add("Convolution", [mean, weights(size(x, 1), size(x, 1), 1, 1)], {})
    (factor,) = g.network.add("Activation", [scaled], {"function": "sigmoid"})
    return g.network.add("Elementwise", [x, factor], {"operation": "prod"})[0]


@step
def padding(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if x.type.rank != 4 or size(x, 2) > PLANE:
        return None
    pads = np.array([0, 0, 1, 1, 0, 0, 1, variant % 2])
    return g.network.add("Padding", [x, pads], {"mode": ("constant", "edge")[variant % 2]})[0]


@step
def slicing(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    """All but the first along an axis, or every other one."""
    axis = x.type.rank - 1 - variant % 2
    if size(x, axis) < 4:
        return None
    bounds = [np.array([value]) for value in (1, size(x, axis), axis, 1 + variant // 2 % 2)]
    return g.network.add("Slice", [x, *bounds], {})[0]


@step
def resizing(g: RandomGraph, x: Any, y: Any, variant: int) -> Any:
    if not image(x) or size(x, 2) > PLANE:
        return None
    scales = np.array([1, 1, 2, 2], np.float32)
    return g.network.add("Resize", [x, None, scales], {"mode": ("nearest", "linear")[variant % 2]})[0]


def random_network(
    graphs: Sequence[Sequence[Numbers]], batch: Dimension, words: Dimension = WORDS, plane: Dimension = PLANE
) -> Network:
    """A network of several graphs over common inputs, with outputs named by graph and position."""
    network = Network("random")
    inputs = [network.add_input(f"image{c}", (batch, c, plane, PLANE)) for c in CHANNELS]
    inputs.append(network.add_input("words", (batch, words, WIDTH)))
    for number, steps in enumerate(graphs):
        graph = RandomGraph(network, list(inputs))
        for numbers in steps:
            graph.take(numbers)
        for position, tensor in enumerate(graph.outputs()):
            network.mark_output(tensor, f"graph{number}.{position}")
    if not network.outputs:
        network.mark_output(inputs[0], "nothing")
    return network
