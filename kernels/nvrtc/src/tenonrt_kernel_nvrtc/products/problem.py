"""Products with constant weights as problems: convolutions of images and fully connected layers, what follows each.

A convolution is a product of gathered rows: row m is an output pixel, column k a tap of the window and a channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from tenonrt.contracts import Array, Problem, ProblemLayer, Tactic

from tenonrt_kernel_nvrtc.expressions import refusal
from tenonrt_kernel_nvrtc.storage import Narrow
from tenonrt_kernel_nvrtc.windows import Window, windows

ANCHORS = frozenset({"Convolution", "FullyConnected"})


@dataclass(frozen=True)
class Branch:
    """One of the products of a problem: its layer, the pointwise layers behind it, and its columns of the whole."""

    anchor: ProblemLayer
    tail: tuple[ProblemLayer, ...]
    first: int
    columns: int

    @property
    def result(self) -> int:
        return (self.tail or (self.anchor,))[-1].outputs[0]


@dataclass(frozen=True)
class Geometry:
    """Rows gathered from images [N, H, W, channels]; a fully connected layer has one image of one row."""

    images: int
    rows: Window
    columns: Window
    channels: int

    @property
    def m(self) -> int:
        """Rows of the product: output pixels."""
        return self.images * self.rows.positions * self.columns.positions

    @property
    def taps(self) -> int:
        return self.rows.window * self.columns.window

    @property
    def whole(self) -> bool:
        """Whether output pixels are input pixels, one by one."""
        both = (self.rows, self.columns)
        return all(w.window == w.stride == 1 and not w.before and not w.after for w in both)


def branches(problem: Problem) -> tuple[Branch, ...] | str:
    """The products of a problem with their tails, or why it is no such problem."""
    found: list[list[ProblemLayer]] = []
    for layer in problem.layers:
        if layer.kind in ANCHORS:
            found.append([layer])
            continue
        behind = [b for b in found if b[-1].outputs[0] in layer.inputs]
        if len(behind) != 1:
            return "a layer follows none of the products, or several"
        behind[0].append(layer)
    made, first = list[Branch](), 0
    for anchor, *tail in found:
        columns = -(-problem.types[anchor.outputs[0]].concrete({})[1 if anchor.kind == "Convolution" else -1] // 8) * 8
        made.append(Branch(anchor, tuple(tail), first, columns))
        first += columns
    if problem.outputs != tuple(branch.result for branch in made):
        return "an interior result is wanted outside of the region"
    return tuple(made)


def parts_of(problem: Problem) -> tuple[Branch, ...]:
    """The branches of a problem that `refuses` lets through."""
    found = branches(problem)
    assert not isinstance(found, str), found
    return found


def geometry(problem: Problem) -> Geometry:
    """How rows are gathered; the same for all branches."""
    layer = problem.layer
    source = problem.types[layer.inputs[0]].concrete({})
    if layer.kind == "FullyConnected":
        return rows_of(source)
    rows, columns = windows(problem, problem.types[layer.inputs[1]].concrete({})[2:])
    return Geometry(source[0], rows, columns, -(-source[1] // 8) * 8)


def rows_of(source: tuple[int, ...]) -> Geometry:
    """A matrix, of whatever leading axes, as one image of one row."""
    size = prod(source[:-1])
    return Geometry(1, Window(1, 1, 1, 1, 1, 0, 0), Window(size, size, 1, 1, 1, 0, 0), source[-1])


def refuses(problem: Problem) -> str:
    """Why a problem of static tensors is none that these kernels compute; empty when it is one."""
    if problem.layer.kind not in ANCHORS:
        return "it begins with no product"
    for layer in problem.layers:
        why = _refuses_anchor(problem, layer) if layer.kind in ANCHORS else refusal(problem, layer)
        if why:
            return why
    found = branches(problem)
    if isinstance(found, str):
        return found
    return next(filter(None, (_refuses_operands(problem, branch) for branch in found)), "")


def _refuses_anchor(problem: Problem, layer: ProblemLayer) -> str:
    first = problem.layer
    if layer.kind != first.kind or layer.inputs[0] != first.inputs[0] or layer.attrs != first.attrs:
        return "products that do not read alike"
    weights, source = layer.inputs[1], problem.types[layer.inputs[0]]
    if layer.inputs[0] not in problem.activations or weights not in problem.constants or source.dtype != "float32":
        return "no product of a computed float32 tensor by constants"
    bias = layer.inputs[2] if len(layer.inputs) > 2 else -1
    if bias >= 0 and bias not in problem.constants:
        return "a bias that is computed"
    shape, result = problem.types[weights].concrete({}), problem.types[layer.outputs[0]]
    if not source.size or not result.size or shape[2:] != problem.types[first.inputs[1]].concrete({})[2:]:
        return "nothing to compute, or windows of several sizes"
    if layer.kind == "Convolution":
        return "no image, or groups" if source.rank != 4 or layer.attrs.groups != 1 else ""
    return "" if shape[0] % 8 == 0 and shape[1] % 8 == 0 else f"sizes of {shape} that are no multiples of 8"


def _refuses_operands(problem: Problem, branch: Branch) -> str:
    """What a tail reads must lie as the result does, or be one number."""
    result, made = problem.types[branch.anchor.outputs[0]], {branch.anchor.outputs[0]}
    for layer in branch.tail:
        for number in (i for i in layer.inputs if i >= 0 and i not in made):
            if number >= len(problem.inputs):
                return "a tail reads another branch"
            type, given = problem.types[number], problem.inputs[number]
            scalar = given.role == "constant" and given.value is not None and type.size == 1
            if not scalar and (type != result or given.role == "constant"):
                return f"a tail reads {type} beside {result}"
        made.add(layer.outputs[0])
    return ""


def product_tactic(problem: Problem, shape: str, narrow: Narrow) -> Tactic:
    """The tactic of a tile: rows, or pixels, which may be slices of wider ones."""
    images = problem.layer.kind == "Convolution"
    count, made = len(problem.activations), len(problem.outputs)
    format = narrow.channels_8 if images else narrow.rows
    return Tactic(
        narrow.key(shape), (format,) * count, (format,) * made, narrow.dtype,
        reads_strided=tuple(range(count)) if images else (),
        writes_strided=tuple(range(made)) if images else (),
    )  # fmt: skip


def packed_branches(
    parts: Sequence[Branch], given: Mapping[int, Array], depth: int, narrow: Narrow, tap: int = 8
) -> tuple[Array, Array]:
    """Weights [columns, k], narrow, and bias. k goes through the taps, of each through the channels, padded to a
    multiple of ``tap``, and is padded to one of ``depth``."""
    packed, added = list[Array](), list[Array]()
    for part in parts:
        matrix = given[part.anchor.inputs[1]]
        taps = matrix.reshape(*matrix.shape[:2], -1).transpose(0, 2, 1)
        rows = (0, part.columns - matrix.shape[0])
        whole = np.pad(taps, ((0, 0), (0, 0), (0, -taps.shape[2] % tap)))
        flat = whole.reshape(len(whole), -1)
        packed.append(narrow.rounded(np.pad(flat, (rows, (0, -flat.shape[1] % depth)))))
        bias = part.anchor.inputs[2] if len(part.anchor.inputs) > 2 else -1
        values = given[bias].reshape(-1) if bias >= 0 else np.zeros(matrix.shape[0], np.float32)
        added.append(np.pad(values, rows).astype(np.float32))
    return np.concatenate(packed), np.concatenate(added)


def others(problem: Problem, branch: Branch) -> list[int]:
    """The activations that a tail reads."""
    read = dict.fromkeys(i for layer in branch.tail for i in layer.inputs)
    return [i for i in read if 0 <= i < len(problem.inputs) and i in problem.activations]
