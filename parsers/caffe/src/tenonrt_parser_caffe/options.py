"""What may be said when a Caffe network is read."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from tenonrt.contracts import ParserOptions


class CaffeOptions(ParserOptions, frozen=True):
    """Options of the Caffe parser; without any, a network must hold its own weights."""

    weights: Annotated[str | None, Meta(description="The caffemodel with the trained weights.")] = None
    output_blob: Annotated[
        tuple[str, ...], Meta(description="A blob to compute; by default those that no layer reads. Repeatable.")
    ] = ()
    mean: Annotated[str | None, Meta(description="A binaryproto whose values are subtracted from the input.")] = None
    random_weights: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Make up the weights that are missing, from this seed.")
    ] = None
    input_shape: Annotated[
        tuple[str, ...],
        Meta(description="BLOB=1x3x224x224: the shape of an input, for data layers too. Repeatable."),
    ] = ()
    free_batch: Annotated[bool, Meta(description="Let the first dimension of every input vary.")] = False
