"""The Einsum layer: sums of products over named axes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from tenonrt.contracts import (
    FLOATS,
    INTEGERS,
    Array,
    Attributes,
    Case,
    Dimension,
    LayerType,
    Run,
    Shape,
    TensorInfo,
    TensorType,
    broadcast,
    product,
    required,
    same,
    working_dtype,
)

_TERM = re.compile(r"([A-Za-z]*)(?:(\.\.\.)([A-Za-z]*))?")


class EinsumAttributes(Attributes, frozen=True):
    """equation: as NumPy's einsum takes it, ``bij,bjk->bik``; ``...`` stands for axes that broadcast."""

    equation: str


class EinsumLayer(LayerType):
    """The sum of products that the equation says, over any number of inputs of one element type (ONNX Einsum)."""

    Attrs = EinsumAttributes
    inputs = ("operands*",)
    pattern = "contraction"

    def infer(self, attrs: EinsumAttributes, inputs: Sequence[TensorInfo | None]) -> list[TensorInfo]:
        operands = required(inputs, len(inputs))
        terms, output = _parsed(attrs.equation)
        if len(terms) != len(operands):
            raise ValueError(f"the equation {attrs.equation!r} has {len(terms)} terms for {len(operands)} inputs")
        if len({x.dtype for x in operands}) != 1:
            raise ValueError(f"the inputs need one element type, found {', '.join(x.dtype for x in operands)}")
        if operands[0].dtype not in FLOATS + INTEGERS:
            raise ValueError(f"the inputs must hold numbers, found {operands[0].type}")
        sizes, batch = _sizes(terms, [x.shape for x in operands])
        unknown = set(output) - {"."} - set(sizes)
        if unknown:
            raise ValueError(f"the output of {attrs.equation!r} has {', '.join(sorted(unknown))}, which no input has")
        before, dots, after = output.partition("...")
        shape = (*(sizes[c] for c in before), *(batch if dots else ()), *(sizes[c] for c in after))
        return [operands[0].like(shape)]

    def reference(self, attrs: EinsumAttributes, arrays: Sequence[Array | None], run: Run) -> list[Array]:
        operands = required(arrays, len(arrays))
        terms, output = _parsed(attrs.equation)
        dtype = operands[0].dtype
        wide = [x.astype(working_dtype(dtype), copy=False) for x in operands]
        return [np.asarray(np.einsum(f"{','.join(terms)}->{output}", *wide)).astype(dtype)]

    def reduction(self, attrs: EinsumAttributes, inputs: Sequence[TensorInfo | None]) -> Dimension:
        terms, output = _parsed(attrs.equation)
        sizes, _ = _sizes(terms, [x.shape for x in required(inputs, len(inputs))])
        return product(size for label, size in sizes.items() if label not in output)

    def cases(self) -> Iterable[Case]:
        examples: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
            ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))), ("ij->ji", ((3, 4),)), ("ij->i", ((3, 4),)),
            ("ii->i", ((3, 3),)),
            ("...ij,...jk->...ik", ((2, 3, 4), (4, 5))), ("i,j", ((3,), (4,))),
            ("bhid,bhjd->bhij", ((1, 2, 3, 4), (1, 2, 3, 4))),
        ]  # fmt: skip
        for equation, shapes in examples:
            yield Case(EinsumAttributes(equation), tuple(TensorType(shape) for shape in shapes), equation)


def _parsed(equation: str) -> tuple[list[str], str]:
    """The inputs' terms and the output's; without an arrow, the output has the labels that appear once, sorted."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if not all(_TERM.fullmatch(term) for term in (*terms, right)):
        raise ValueError(f"{equation!r} is no equation of letters, commas and '...'")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return terms, right


def _sizes(terms: Sequence[str], shapes: Sequence[Shape]) -> tuple[dict[str, Dimension], Shape]:
    """The size of each label, and what the axes under ``...`` broadcast to."""
    sizes: dict[str, Dimension] = {}
    batches: list[Shape] = []
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        hidden = len(shape) - len(before) - len(after)
        if hidden < 0 or (hidden and not dots):
            raise ValueError(f"the term {term!r} does not fit an input of rank {len(shape)}")
        if dots:
            batches.append(shape[len(before) : len(before) + hidden])
        ends = [*zip(before, shape, strict=False), *zip(after, shape[len(before) + hidden :], strict=False)]
        for label, size in ends:
            known = sizes.get(label, 1)
            sizes[label] = size if known == 1 else known if size == 1 else same(known, size, f"axis {label!r}")
    return sizes, broadcast(*batches) if batches else ()
