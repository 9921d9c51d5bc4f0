"""What may be said when a UFF file is read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from tenonrt.contracts import ParserOptions


class UffOptions(ParserOptions, frozen=True):
    """Options of the UFF parser; without any, the file must hold the shapes of its inputs and mark its outputs."""

    uff_input: Annotated[
        tuple[str, ...], Meta(description="NAME,C,H,W: what an input will be given, batch left out. Repeatable.")
    ] = ()
    uff_nhwc: Annotated[bool, Meta(description="The sizes of --uff-input are H,W,C.")] = False
    uff_output: Annotated[
        tuple[str, ...], Meta(description="A node to compute; by default those that the file marks. Repeatable.")
    ] = ()
    uff_literal: Annotated[bool, Meta(description="Set no known flaw of the TensorFlow converter right.")] = False
