"""What may be said when a TensorFlow graph is read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from tenonrt.contracts import ParseError, ParserOptions


class TensorFlowOptions(ParserOptions, frozen=True):
    """Options of the TensorFlow parser; without any, the nodes that nobody reads are the outputs."""

    outputs: Annotated[
        tuple[str, ...],
        Meta(description="NAME or NAME:1, several between commas: what to compute. By default what nobody reads."),
    ] = ()
    input_shape: Annotated[
        tuple[str, ...],
        Meta(description="NAME=1x224x224x3: the shape of a placeholder, or a node to put an input for. Repeatable."),
    ] = ()
    input_dtype: Annotated[
        tuple[str, ...], Meta(description="NAME=uint8: the element type of such an input. Repeatable.")
    ] = ()


def names(texts: tuple[str, ...]) -> list[str]:
    """Names without those that are given twice; the first output of a node may be called ``name:0``."""
    parts = [part.strip().removesuffix(":0") for text in texts for part in text.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """``NAME=1x2x3`` by name, without ``:0``; -1 or ? stand for an unknown size."""
    found = {}
    for text in texts:
        name, sign, sizes = text.rpartition("=")
        parts = [part.strip().replace("?", "-1") for part in sizes.lower().split("x")] if sizes.strip() else []
        if not sign or not name or any(part != "-1" and not part.isdecimal() for part in parts):
            raise ParseError(f"the input {text!r} must be a name and a shape: image=1x224x224x3, -1 for unknown sizes")
        found[name.removesuffix(":0")] = tuple(map(int, parts))
    return found


def dtypes(texts: tuple[str, ...]) -> dict[str, str]:
    """``NAME=uint8`` by name."""
    found = {}
    for text in texts:
        name, sign, dtype = text.rpartition("=")
        if not sign or not name or not dtype:
            raise ParseError(f"the input {text!r} must be a name and an element type: image=uint8")
        found[name.removesuffix(":0")] = dtype
    return found
